"""`python -m kataven.serve [api|hub|app]`: starts gunicorn with the packaged configuration, from any folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

CONFIGURATION = "python:kataven.serve.gunicorn_conf"

USAGE = """\
usage: python -m kataven.serve [api|hub|app] [option of gunicorn ...]

  api   the API
  hub   the Hub's pages
  app   both in one process, routed by the host name of KATAVEN_HUB_URL (default)

It listens on BIND, or on HOST (127.0.0.1) and PORT (8000), with WORKERS processes (default: one per core, at least 2)
of THREADS threads (8). The settings are KATAVEN_... variables. `python -m gunicorn --help` lists gunicorn's options.
"""


def gunicorn_arguments(arguments: Sequence[str]) -> list[str]:
    """gunicorn's arguments. Raises ValueError if the first argument is neither an app nor an option."""
    application, options = "app", list(arguments)
    if options and not options[0].startswith("-"):
        application = options.pop(0)
    if application not in ("api", "hub", "app"):
        raise ValueError(f"{application!r} is not an app: use api, hub or app")
    return ["-c", CONFIGURATION, *options, f"kataven.serve.wsgi:{application}"]


def main(arguments: Sequence[str]) -> NoReturn:
    """Replace this process with gunicorn. Exits after `--help` (0) and if the arguments are invalid (2)."""
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        sys.exit(0)
    try:
        command = [sys.executable, "-m", "gunicorn", *gunicorn_arguments(arguments)]
    except ValueError as error:
        sys.stderr.write(f"{USAGE}\n{error}\n")
        sys.exit(2)
    os.execv(sys.executable, command)  # noqa: S606 - no shell; the arguments of this command


if __name__ == "__main__":
    main(sys.argv[1:])
