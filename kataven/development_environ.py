"""The environment of `make run`, for commands in another shell. Importing this module loads no library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def development_environ(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ` with the variables that `make run` wrote to its data folder, so that `flask …` works in another shell.

    Returns `environ` unchanged if it sets KATAVEN_DATABASE_URL or KATAVEN_ENV.
    """
    if "KATAVEN_DATABASE_URL" in environ or "KATAVEN_ENV" in environ:
        return environ
    path = Path(environ.get("KATAVEN_DATA_DIR") or ".kataven") / "env"
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return environ
    recorded = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {**recorded, **environ}
