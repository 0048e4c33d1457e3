"""The messages of a development run, and the signals that stop it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TextIO

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Raised in the main thread by the first stop signal. Not an Exception, so that no handler catches it."""


def stop_on_signals() -> None:
    """Make the first stop signal raise StopRequested. Later ones are ignored, so that they can't stop the shutdown."""
    for number in STOP_SIGNALS:
        signal.signal(number, _request_stop)


def ignore_stop_signals() -> None:
    """Ignore stop signals, because shutdown is in progress and each of its steps has a timeout."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _request_stop(number: int, _: object) -> None:
    ignore_stop_signals()
    raise StopRequested(signal.Signals(number).name)


def print_line(text: str, stream: TextIO | None = None) -> None:
    """Print a line immediately. Does nothing after the terminal or the pipe was closed."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError:
        # The rest of the buffer would fail again, with a traceback, when Python exits.
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), stream.fileno())


def print_error(text: str) -> None:
    """Print a line to standard error."""
    print_line(text, sys.stderr)
