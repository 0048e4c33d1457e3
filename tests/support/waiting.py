"""Waits for a condition with a deadline and a reason, and never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_NEVER_SET = threading.Event()


def wait_until(condition: Callable[[], bool], seconds: float, why: Callable[[], object] = str) -> None:
    """Return as soon as `condition` is true. Raises TimeoutError with the result of `why` at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {why()}")
        _NEVER_SET.wait(0.01)
