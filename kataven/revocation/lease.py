"""The lease: a worker uses its caches only while it holds a lease that Redis confirmed recently."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since an arbitrary time of this machine. Only differences are meaningful; clocks of two machines are never
compared."""

CLOCK_TOLERANCE = 1.02
"""How much longer a revoker waits than a lease lasts: its clock may run up to 2 % faster than a worker's."""

# A lease must expire while its machine sleeps, so the clock must count that time. Linux's CLOCK_MONOTONIC does not, and
# CLOCK_BOOTTIME does. On macOS and the BSDs, CLOCK_MONOTONIC does.
_CLOCK_ID = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """Seconds on a clock that cannot be set, and that continues while a process is paused or its machine sleeps."""
    return time.clock_gettime(_CLOCK_ID)


class Lease:
    """Valid for `seconds`, counted from a time *before* the renewal was sent.

    Redis records the renewal later than that, so a revoker that counts from a reply of Redis waits long enough.
    """

    def __init__(self, seconds: float, clock: Clock = boottime) -> None:
        self.seconds = seconds
        self.clock = clock
        self.valid_until = -math.inf

    def is_valid(self) -> bool:
        return self.clock() < self.valid_until

    def confirm(self, counted_from: float) -> None:
        """The renewal succeeded; it was sent after `counted_from`."""
        self.valid_until = counted_from + self.seconds

    def drop(self) -> None:
        """Give the lease up now."""
        self.valid_until = -math.inf


def expiry_wait_seconds(lease_seconds: float) -> float:
    """How many seconds a revoker waits until a lease of this length has certainly expired."""
    return lease_seconds * CLOCK_TOLERANCE
