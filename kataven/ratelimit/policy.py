"""How much an account, a key or an address may ask for."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MAX_LIMIT = 1_000_000_000
"""What still fits the counters' 32 bits."""
WINDOWS = ("per_minute", "per_hour", "per_day")
"""Shortest first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may do: requests in any minute, hour and day, and requests at the same time.

    Raises ValueError for what is not a whole number from 1 to `MAX_LIMIT`.
    """

    per_minute: int = 60
    per_hour: int = 1_000
    per_day: int = 10_000
    concurrent: int = 20

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))


def contradictions(limits: Limits | KeyLimits, changed: Collection[str]) -> Iterator[str]:
    """What is wrong between the windows of `limits`: a shorter one that admits more than a longer one is never reached.
    Windows in which a key has no limit of its own are left out.

    Only pairs with a changed limit count, so that an account whose limits were set before this was checked can still
    have another one changed.
    """
    for shorter, longer in itertools.combinations(WINDOWS, 2):
        most, least = getattr(limits, shorter), getattr(limits, longer)
        if None not in (most, least) and most > least and (shorter in changed or longer in changed):
            yield (
                f"{shorter} is {most} and {longer} is {least}, so {most} could never be reached; set {shorter} to at "
                f"most {least}, or {longer} to at least {most}"
            )


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Lower limits of one key; None leaves it to the account's. Raises ValueError as `Limits` does."""

    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                _check(field.name, value)


def _check(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIMIT:
        raise ValueError(f"{name} must be a whole number from 1 to {MAX_LIMIT}")


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit, by the name that clients see."""

    name: str
    limit: int
    seconds: int
    """The length of the window; 0 for requests in flight, which have none."""


class QuotaSet:
    """The quotas of one scope, with everything that needs to be worked out only once."""

    __slots__ = ("arguments", "has_slots", "policy", "quotas")

    def __init__(self, *quotas: Quota) -> None:
        self.quotas = quotas
        self.has_slots = any(quota.seconds == 0 for quota in quotas)
        self.arguments = (len(quotas), *(number for quota in quotas for number in (quota.limit, quota.seconds)))
        """As the Redis script takes them."""
        self.policy = ", ".join(_policy(quota) for quota in quotas)
        """As `RateLimit-Policy` says them (draft-ietf-httpapi-ratelimit-headers-11, section 3)."""


def _policy(quota: Quota) -> str:
    if quota.seconds == 0:
        return f'"{quota.name}";q={quota.limit};qu="concurrent-requests"'
    return f'"{quota.name}";q={quota.limit};w={quota.seconds}'


@dataclass(frozen=True, slots=True)
class RateLimitKey:
    """Whose quotas: `account:acme`, `key:acme:…`, `address:public:…`."""

    name: str
    plan: QuotaSet


@lru_cache(maxsize=4096)
def account_quota_set(limits: Limits) -> QuotaSet:
    return QuotaSet(*_quotas("", limits))


@lru_cache(maxsize=4096)
def key_quota_set(limits: KeyLimits) -> QuotaSet:
    """The quotas that the key has of its own, named `key-per-minute` and so on."""
    return QuotaSet(*_quotas("key-", limits))


def _quotas(prefix: str, limits: Limits | KeyLimits) -> list[Quota]:
    given = [
        (f"{prefix}per-minute", limits.per_minute, MINUTE),
        (f"{prefix}per-hour", limits.per_hour, HOUR),
        (f"{prefix}per-day", limits.per_day, DAY),
        (f"{prefix}concurrent", limits.concurrent, 0),
    ]
    return [Quota(name, limit, seconds) for name, limit, seconds in given if limit is not None]
