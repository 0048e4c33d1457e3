"""What is kept of the usage of an account, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MINUTES_KEPT = timedelta(hours=48)
ADDRESSES_KEPT = timedelta(hours=48)
WRITERS_KEPT = timedelta(days=2)
MAX_LOGGED = 10_000
"""How many requests the log of an account keeps: the latest ones."""


@dataclass(frozen=True, slots=True)
class UsagePolicy:
    """The retention of usage. Refusals are always logged, up to bounds."""

    days: int = 90
    """How long counts by hour, and the last call of each caller, are kept."""
    log_hours: int = 24
    """How long requests are logged."""
    successes: int = 30
    """How many successful requests each worker logs per account and minute, in addition to the first one of each key,
    route and address. 0: none."""
