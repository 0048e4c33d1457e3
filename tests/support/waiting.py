"""Waiting for a condition, with a deadline and a reason; never for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_NEVER_SET = threading.Event()


def wait_until(condition: Callable[[], bool], seconds: float, why: Callable[[], object] = str) -> None:
    """Return as soon as `condition` holds. Raises TimeoutError, with what `why` says, if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {why()}")
        _NEVER_SET.wait(0.01)
