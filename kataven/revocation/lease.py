"""The first rule. A worker uses what it remembers only while a lease holds that Redis confirmed a moment ago."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since some moment of this machine. Only its own differences mean anything: no two machines' are compared."""

CLOCK_TOLERANCE = 1.02
"""How much longer a revoker waits than a lease lasts: its clock may run up to 2 % faster than a worker's."""

# A worker that slept with its machine must wake with its lease lapsed, so the clock has to count the sleep.
# Linux's CLOCK_MONOTONIC does not; CLOCK_BOOTTIME does. Elsewhere (macOS, the BSDs) CLOCK_MONOTONIC does.
_CLOCK_ID = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds on a clock that nobody sets and that goes on while a process is stopped or its machine asleep."""
    return time.clock_gettime(_CLOCK_ID)


class Lease:
    """How long a worker may trust its memory: `seconds` from the moment *before* it asked Redis to renew.

    Redis noted the renewal later than that, so whoever counts from when Redis spoke waits long enough.
    """

    def __init__(self, seconds: float, clock: Clock = boottime) -> None:
        self.seconds = seconds
        self.clock = clock
        self.valid_until = -math.inf

    def is_valid(self) -> bool:
        return self.clock() < self.valid_until

    def confirm(self, counted_from: float) -> None:
        """Redis answered a renewal that was sent after `asked_at`."""
        self.valid_until = counted_from + self.seconds

    def drop(self) -> None:
        """Give it up now."""
        self.valid_until = -math.inf


def expiry_wait_seconds(lease_seconds: float) -> float:
    """How many seconds a revoker has to wait until a lease of that length has surely lapsed."""
    return lease_seconds * CLOCK_TOLERANCE
