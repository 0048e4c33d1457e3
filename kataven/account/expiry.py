"""How long a key may live, and how long the account's policy lets it."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from kataven.account.errors import ExpiryExceedsPolicy


class Expiry(StrEnum):
    """The lifetimes a key can be given."""

    NEVER = "never"
    YEAR = "1y"
    QUARTER = "90d"
    MONTH = "30d"


LIFETIMES = {Expiry.YEAR: timedelta(days=365), Expiry.QUARTER: timedelta(days=90), Expiry.MONTH: timedelta(days=30)}


def allowed(max_days: int | None) -> list[Expiry]:
    """What a policy of at most `max_days` leaves to choose; None is no policy."""
    if max_days is None:
        return list(Expiry)
    return [expiry for expiry, lifetime in LIFETIMES.items() if lifetime <= timedelta(days=max_days)]


def expires_at(expiry: Expiry, now: datetime, max_days: int | None) -> datetime | None:
    """The moment a key made now ends, None for never. Raises ExpiryExceedsPolicy."""
    permitted = allowed(max_days)
    if expiry not in permitted:
        assert max_days is not None  # noqa: S101  without a policy everything is permitted
        raise ExpiryExceedsPolicy(max_days, [str(choice) for choice in permitted])
    return now + LIFETIMES[expiry] if expiry in LIFETIMES else None
