"""Lifetimes of keys, and the account's policy that restricts them."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from kataven.account.errors import ExpiryExceedsPolicy


class Expiry(StrEnum):
    """The available lifetimes of a key."""

    NEVER = "never"
    YEAR = "1y"
    QUARTER = "90d"
    MONTH = "30d"


LIFETIMES = {Expiry.YEAR: timedelta(days=365), Expiry.QUARTER: timedelta(days=90), Expiry.MONTH: timedelta(days=30)}


def allowed(max_days: int | None) -> list[Expiry]:
    """The lifetimes that a policy of at most `max_days` allows; None means no policy."""
    if max_days is None:
        return list(Expiry)
    return [expiry for expiry, lifetime in LIFETIMES.items() if lifetime <= timedelta(days=max_days)]


def expires_at(expiry: Expiry, now: datetime, max_days: int | None) -> datetime | None:
    """When a key that is created now expires; None means never. Raises ExpiryExceedsPolicy."""
    permitted = allowed(max_days)
    if expiry not in permitted:
        assert max_days is not None  # noqa: S101  without a policy, every lifetime is allowed
        raise ExpiryExceedsPolicy(max_days, [str(choice) for choice in permitted])
    return now + LIFETIMES[expiry] if expiry in LIFETIMES else None
