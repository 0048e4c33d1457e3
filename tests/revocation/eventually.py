"""Waits for an effect of another thread or process."""

from __future__ import annotations

import threading
from collections.abc import Callable

TIMEOUT_SECONDS = 30


def eventually(happens: Callable[[], bool]) -> bool:
    """Whether the condition becomes true before the timeout."""
    pause = threading.Event()
    return any(happens() or pause.wait(0.002) for _ in range(TIMEOUT_SECONDS * 500))
