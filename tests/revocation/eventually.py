"""Waiting for what another thread or process will bring about."""

from __future__ import annotations

import threading
from collections.abc import Callable

TIMEOUT_SECONDS = 30


def eventually(happens: Callable[[], bool]) -> bool:
    """Whether it happens before patience ends."""
    pause = threading.Event()
    return any(happens() or pause.wait(0.002) for _ in range(TIMEOUT_SECONDS * 500))
