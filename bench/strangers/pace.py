"""When to send: an open loop for the good clients, and a rate without bursts for the attacks."""

from __future__ import annotations

import random
from collections.abc import Iterator


def open_loop(began: float, seconds: float, per_second: float, seed: int) -> Iterator[float]:
    """The times from `began` at which requests are due for so long: even, give or take half a step.

    Latency is counted from these times, so that a request which had to wait for its turn shows that.
    """
    dice = random.Random(seed)  # noqa: S311  no secret
    step = 1 / per_second
    for number in range(round(seconds * per_second)):
        yield began + (number + dice.random()) * step


class Pace:
    """At most so many per second, evenly, and no bursts after a pause."""

    def __init__(self, per_second: float) -> None:
        self._step = 1 / per_second
        self._next = 0.0

    def due(self, now: float) -> float:
        """When the next one may start: `now` or later."""
        due = max(now, self._next)
        self._next = due + self._step
        return due
