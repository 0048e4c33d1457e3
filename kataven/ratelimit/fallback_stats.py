"""Counters of the local fallback in this worker, for export as metrics."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class FallbackCounters:
    """A `FallbackStats` that counts events. The fields can be read at any time and never decrease."""

    times_degraded: int = 0
    seconds_degraded: float = 0.0
    """Completed fallbacks only."""
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
