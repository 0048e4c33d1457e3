"""Garbage collection of a process that runs one command."""

from __future__ import annotations

import atexit
import gc


def collect_rarely() -> None:
    """A command creates most of its objects by imports, and keeps them. The default would search them hundreds of
    times, and again at the end of the process."""
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
