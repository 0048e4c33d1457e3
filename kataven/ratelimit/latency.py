"""The time after which a reply of Redis counts as slow, from its usual round trip and this process's own delays.

A reply after 40 ms is normal for a Redis that is 30 ms away, but slow for one that usually replies within 1 ms. If
processes wait for a CPU core, a late reply does not indicate a slow Redis: this process then also wakes up later than
requested. Both extend the timeout up to a bound, so a worker stops using an unresponsive Redis on a busy machine too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

BEST_SECONDS = 600.0
"""The best round trip expires after one to two of these intervals: after a failover, Redis can be farther away."""
LAG_SECONDS = 5.0
"""How long a measured delay of this process is taken as its current delay."""


@dataclass(frozen=True, slots=True)
class RedisTimeouts:
    """Timeouts for Redis, in seconds."""

    slow: float = 0.025
    """The slow threshold if Redis is near and this process is not delayed. A lower bound."""
    reply: float = 0.2
    """The timeout for a reply, extended by as much as `LatencyTracker` extends `slow`."""
    connect: float = 0.2
    """The timeout for opening a connection."""
    close: float = 2.0
    """The timeout for pending replies when a connection is closed. It is long because no request waits for it."""
    slow_max: float = 0.5
    """The upper bound of the slow threshold."""
    best_factor: float = 3.0
    """The slow threshold as a multiple of the best round trip."""
    lag_factor: float = 4.0
    """How many times this process's own delay is added: a reply involves four steps that can each be delayed."""


class LatencyTracker:
    """Latency of one Redis, as measured. Any thread can record; an update that is lost in a race is measured again."""

    def __init__(self, timeouts: RedisTimeouts, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._best = self._best_before = inf
        self._best_since = clock()
        self._lag = 0.0
        self._lag_until = 0.0

    def record_round_trip(self, seconds: float) -> None:
        """Record a reply. Called on every request."""
        if seconds < self._best:
            self._best = seconds

    def record_delay(self, seconds: float) -> None:
        """Record that this process resumed `seconds` later than requested."""
        now = self._clock()
        if seconds >= self._lag or now >= self._lag_until:
            self._lag, self._lag_until = seconds, now + LAG_SECONDS

    @property
    def slow_threshold(self) -> float:
        """Seconds after which a reply counts as slow."""
        timeouts, now = self._timeouts, self._clock()
        if now - self._best_since >= BEST_SECONDS:
            self._best_before, self._best, self._best_since = self._best, inf, now
        best = min(self._best, self._best_before)
        usual = timeouts.slow if best is inf else max(timeouts.slow, timeouts.best_factor * best)
        return max(timeouts.slow, min(timeouts.slow_max, usual + self.own_delay))

    @property
    def reply_timeout(self) -> float:
        """Seconds after which a request for a reply times out."""
        return self._timeouts.reply + self.slow_threshold - self._timeouts.slow

    @property
    def own_delay(self) -> float:
        """Seconds of a delay that this process itself can have caused."""
        return self._timeouts.lag_factor * self._lag if self._clock() < self._lag_until else 0.0
