"""`python -m kataven.dev`, which is what `make run` runs."""

from __future__ import annotations

import os
import sys

from kataven.dev.terminal import StopRequested, stop_on_signals


def main() -> int:
    """The exit status. Ctrl-C is welcome from the first moment on, during half a second of imports too."""
    try:
        stop_on_signals()
        from kataven.dev import run

        return run.main(os.environ)
    except StopRequested:
        return 0


if __name__ == "__main__":
    sys.exit(main())
