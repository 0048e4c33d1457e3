"""`python -m kataven.dev`, the program that `make run` starts."""

from __future__ import annotations

import os
import sys

from kataven.dev.terminal import StopRequested, stop_on_signals


def main() -> int:
    """The exit status. Ctrl-C works from the start, even during the imports, which take half a second."""
    try:
        stop_on_signals()
        from kataven.dev import run

        return run.main(os.environ)
    except StopRequested:
        return 0


if __name__ == "__main__":
    sys.exit(main())
