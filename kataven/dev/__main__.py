"""`python -m kataven.dev`, the program that `make run` starts. With `--reload`, it is `make dev`."""

from __future__ import annotations

import argparse
import os
import sys

from kataven.dev.terminal import StopRequested, stop_on_signals


def main() -> int:
    """The exit status. Ctrl-C works from the start, even during the imports, which take half a second."""
    parser = argparse.ArgumentParser(prog="python -m kataven.dev", description="Start all servers on this machine.")
    parser.add_argument("--reload", action="store_true", help="restart the API and the Hub when the code changes")
    given = parser.parse_args()
    try:
        stop_on_signals()
        from kataven.dev import run

        return run.main(os.environ, reload=given.reload)
    except StopRequested:
        return 0


if __name__ == "__main__":
    sys.exit(main())
