"""Schedules: an open loop for valid clients, and an even rate without bursts for attacks."""

from __future__ import annotations

import random
from collections.abc import Iterator


def open_loop(started: float, seconds: float, per_second: float, seed: int) -> Iterator[float]:
    """The times from `started` on at which requests are due, evenly spaced with a random offset of up to one step.

    Latency is measured from these times, so it includes the time that a request waited in the client.
    """
    dice = random.Random(seed)  # noqa: S311  not a secret
    step = 1 / per_second
    for number in range(round(seconds * per_second)):
        yield started + (number + dice.random()) * step


class RateLimiter:
    """Spaces requests evenly at `per_second`, without bursts after a pause."""

    def __init__(self, per_second: float) -> None:
        self._step = 1 / per_second
        self._next = 0.0

    def due(self, now: float) -> float:
        """The time of the next request: `now` or later."""
        due = max(now, self._next)
        self._next = due + self._step
        return due
