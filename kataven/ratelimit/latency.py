"""When is an answer of Redis a slow one? Judged by what this Redis can do, and by how late this process itself is.

A Redis 30 ms away is not slow when it takes 40 ms; one that used to answer within a millisecond is. And where each
process waits its turn for a core, an answer that is late says nothing of Redis: then the same delay is seen in this
process, which wakes up later than it asked to. Both make the wait longer, up to a bound, so that a Redis that hangs is
left however busy the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

BEST_SECONDS = 600.0
"""The best round trip is forgotten after so long, twice at most: a failover may lead to a Redis farther away."""
LAG_SECONDS = 5.0
"""How long a delay that this process suffered is taken for what it may suffer now."""


@dataclass(frozen=True, slots=True)
class RedisTimeouts:
    """How long to wait for Redis, in seconds."""

    slow: float = 0.025
    """An answer that takes longer is a slow one, where this Redis is near and this process is not late itself."""
    answer: float = 0.2
    """No answer is waited for longer than this, and what `Pace` adds to `slow`,"""
    connect: float = 0.2
    """nor a connection longer than this."""
    close: float = 2.0
    """Nobody waits while a connection is closed: what was sent last is worth more time than that."""
    slow_at_most: float = 0.5
    """An answer that takes longer is a slow one, wherever Redis is and however late this process."""
    times_best: float = 3.0
    """An answer may take so many times the best round trip."""
    times_lag: float = 4.0
    """An answer may take longer by so many times this process's own delay: it passes through four hands."""


class LatencyTracker:
    """What is known of the way to one Redis. Any thread may tell it something; what is lost in a race comes again."""

    def __init__(self, timeouts: RedisTimeouts, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeouts = timeouts
        self._clock = clock
        self._best = self._best_before = inf
        self._best_since = clock()
        self._lag = 0.0
        self._lag_until = 0.0

    def took(self, seconds: float) -> None:
        """An answer took so long. On the path of every request."""
        if seconds < self._best:
            self._best = seconds

    def overslept(self, seconds: float) -> None:
        """This process wanted to run, and did so later by this much."""
        now = self._clock()
        if seconds >= self._lag or now >= self._lag_until:
            self._lag, self._lag_until = seconds, now + LAG_SECONDS

    @property
    def slow_after(self) -> float:
        """An answer that takes longer than so many seconds is a slow one."""
        timeouts, now = self._timeouts, self._clock()
        if now - self._best_since >= BEST_SECONDS:
            self._best_before, self._best, self._best_since = self._best, inf, now
        best = min(self._best, self._best_before)
        usual = timeouts.slow if best is inf else max(timeouts.slow, timeouts.times_best * best)
        return max(timeouts.slow, min(timeouts.slow_at_most, usual + self.excuse))

    @property
    def answer_within(self) -> float:
        """No answer is waited for longer than so many seconds."""
        return self._timeouts.answer + self.slow_after - self._timeouts.slow

    @property
    def excuse(self) -> float:
        """The part of a delay, in seconds, that is this process's own."""
        return self._timeouts.times_lag * self._lag if self._clock() < self._lag_until else 0.0
