"""How often this worker had to limit by itself: plain numbers, for whoever exports them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class FallbackCounters:
    """A Tally that counts. Read the fields at any time; they only grow."""

    times_degraded: int = 0
    seconds_degraded: float = 0.0
    """Of the times that are over."""
    requests_decided_locally: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def degraded(self, reason: str) -> None:
        with self._lock:
            self.times_degraded += 1

    def restored(self, seconds: float) -> None:
        with self._lock:
            self.seconds_degraded += seconds

    def decided_locally(self) -> None:
        with self._lock:
            self.requests_decided_locally += 1
