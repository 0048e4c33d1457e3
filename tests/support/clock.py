"""A clock that stands still until it is told to move."""

from __future__ import annotations


class Clock:
    """Call it for the time in seconds."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
