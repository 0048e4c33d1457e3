"""What a development run says, and the signals by which it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import TextIO

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequested(BaseException):
    """Raised in the main thread, wherever it is, by the first stop signal. No Exception: nothing may handle it."""


def stop_on_signals() -> None:
    """From now on a stop signal raises StopRequested: the first one only, since stopping must not be interrupted."""
    for number in STOP_SIGNALS:
        signal.signal(number, _request_stop)


def ignore_stop_signals() -> None:
    """From now on stop signals do nothing: the run is stopping already, and every wait of that has an end."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _request_stop(number: int, frame: FrameType | None) -> None:
    ignore_stop_signals()
    raise StopRequested(signal.Signals(number).name)


def say(text: str, stream: TextIO | None = None) -> None:
    """A line for whoever watches. Once they have closed the terminal or the pipe, nothing any more."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError:
        # What is left in the buffer would fail once more, and loudly, when Python exits.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def complain(text: str) -> None:
    """A line on the standard error."""
    say(text, sys.stderr)
