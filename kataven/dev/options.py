"""The environment variables that `make run` itself reads. All others are the product's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kataven.dev.embedded.errors import DevError

MAX_PORT = 65_535
MAX_WORKERS = 64


@dataclass(frozen=True)
class Options:
    """The options of a development run."""

    data_dir: Path
    port: int
    workers: int
    database_url: str | None = field(repr=False)
    """None: start the embedded PostgreSQL."""
    redis_url: str | None = field(repr=False)
    """None: start the embedded Redis."""


def read_options(environ: Mapping[str, str]) -> Options:
    """Options from KATAVEN_DATA_DIR, PORT, WORKERS, KATAVEN_DATABASE_URL and KATAVEN_REDIS_URL; empty means unset.

    Raises DevError with a line for each invalid value.
    """
    problems: list[str] = []
    options = Options(
        data_dir=_folder(environ, "KATAVEN_DATA_DIR", ".kataven", problems),
        port=_number(environ, "PORT", 8000, MAX_PORT, problems),
        workers=_number(environ, "WORKERS", 2, MAX_WORKERS, problems),
        database_url=environ.get("KATAVEN_DATABASE_URL") or None,
        redis_url=environ.get("KATAVEN_REDIS_URL") or None,
    )
    if problems:
        raise DevError("\n".join(problems))
    return options


def _number(environ: Mapping[str, str], name: str, default: int, most: int, problems: list[str]) -> int:
    text = environ.get(name) or str(default)
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most:
        return int(text)
    problems.append(f"{name}: must be a whole number from 1 to {most}, not {text[:20]!r}")
    return default


def _folder(environ: Mapping[str, str], name: str, default: str, problems: list[str]) -> Path:
    path = Path(environ.get(name) or default).absolute()
    if not str(path).isprintable():
        problems.append(f"{name}: must not contain control characters")
    elif path.exists() and not path.is_dir():
        problems.append(f"{name}: {path} is not a folder")
    return path
