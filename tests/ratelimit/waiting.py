"""Waits until a condition holds."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], within_seconds: float = 20.0) -> None:
    """Return as soon as the condition holds; fail if it does not hold within `within_seconds`."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within_seconds:g} s")
        time.sleep(0.005)
