"""Limits of accounts, API keys and client addresses, and the quotas that enforce them."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MAX_LIMIT = 1_000_000_000
"""Fits into the 32-bit counters in Redis."""


@dataclass(frozen=True, slots=True)
class LimitField:
    """One of the limits that an account or an API key can have."""

    field: str
    """The name in Python, in JSON and in the database: `per_minute`."""
    label: str
    """The name in forms and tables: `Requests per minute`."""
    seconds: int
    """The length of the window; 0 for the number of concurrent requests."""

    @property
    def quota(self) -> str:
        """The name in response headers, error messages and metrics: `per-minute`."""
        return self.field.replace("_", "-")

    @property
    def option(self) -> str:
        """The option of commands: `--per-minute`."""
        return f"--{self.quota}"

    @property
    def words(self) -> str:
        """The name in a sentence: `per minute`."""
        return self.field.replace("_", " ")


LIMIT_FIELDS = (
    LimitField("per_minute", "Requests per minute", MINUTE),
    LimitField("per_hour", "Requests per hour", HOUR),
    LimitField("per_day", "Requests per day", DAY),
    LimitField("concurrent", "Concurrent requests", 0),
)
"""All limits, windows first and in order of their length. Code that handles every limit must iterate over this tuple.
A new limit also needs a field in `Limits` and in `KeyLimits`: see "Add a rate-limit window" in docs/development.md."""
WINDOWS = tuple(limit.field for limit in LIMIT_FIELDS if limit.seconds)
"""The fields that limit requests in a window, shortest first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an account: requests in any minute, hour and day, and concurrent requests.

    Raises ValueError if a limit is not a whole number from 1 to `MAX_LIMIT`.
    """

    per_minute: int = 60
    per_hour: int = 1_000
    per_day: int = 10_000
    concurrent: int = 20

    def __post_init__(self) -> None:
        for limit in LIMIT_FIELDS:
            _check(limit.field, getattr(self, limit.field))


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The limits of one API key, below the account's. None means no separate limit. Raises ValueError as `Limits`."""

    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        for limit in LIMIT_FIELDS:
            value = getattr(self, limit.field)
            if value is not None:
                _check(limit.field, value)


def contradictions(limits: Limits | KeyLimits, changed: Collection[str]) -> Iterator[str]:
    """Messages for windows that contradict each other: a shorter window must not allow more than a longer one.

    Windows without a limit are skipped. Only pairs with a changed limit are checked, so other limits of an account can
    be changed even if its limits were set before this check existed.
    """
    for shorter, longer in itertools.combinations(WINDOWS, 2):
        most, least = getattr(limits, shorter), getattr(limits, longer)
        if None not in (most, least) and most > least and (shorter in changed or longer in changed):
            yield (
                f"{shorter} is {most} and {longer} is {least}, so {most} could never be reached; set {shorter} to at "
                f"most {least}, or {longer} to at least {most}"
            )


def _check(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIMIT:
        raise ValueError(f"{name} must be a whole number from 1 to {MAX_LIMIT}")


@dataclass(frozen=True, slots=True)
class Quota:
    """One enforced limit, with the name that clients see."""

    name: str
    limit: int
    seconds: int
    """The length of the window; 0 for a number of concurrent requests."""


class QuotaSet:
    """The quotas of one rate limit key, with precomputed script arguments and headers."""

    __slots__ = ("arguments", "has_slots", "policy", "quotas")

    def __init__(self, *quotas: Quota) -> None:
        self.quotas = quotas
        self.has_slots = any(quota.seconds == 0 for quota in quotas)
        self.arguments = (len(quotas), *(number for quota in quotas for number in (quota.limit, quota.seconds)))
        """Arguments for the Redis script."""
        self.policy = ", ".join(_policy(quota) for quota in quotas)
        """The value of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11, section 3)."""


def _policy(quota: Quota) -> str:
    if quota.seconds == 0:
        return f'"{quota.name}";q={quota.limit};qu="concurrent-requests"'
    return f'"{quota.name}";q={quota.limit};w={quota.seconds}'


@dataclass(frozen=True, slots=True)
class RateLimitKey:
    """What requests are counted by, and its quotas: `account:{acme}`, `key:{acme}:…`, `address:public:{192.0.2.1}`.

    The part in braces is a hash tag of Redis Cluster: names with the same tag are in one slot, so one script can use
    them. All rate limit keys of one decision must have the same tag.
    """

    name: str
    quota_set: QuotaSet

    @property
    def tag(self) -> str:
        """The hash tag with its braces; the whole name if it has none."""
        start = self.name.find("{")
        return self.name if start < 0 else self.name[start : self.name.find("}", start) + 1]


@lru_cache(maxsize=4096)
def account_quota_set(limits: Limits) -> QuotaSet:
    return QuotaSet(*_quotas("", limits))


@lru_cache(maxsize=4096)
def key_quota_set(limits: KeyLimits) -> QuotaSet:
    """The quotas for the limits that the API key has itself, named `key-per-minute` and so on."""
    return QuotaSet(*_quotas("key-", limits))


def _quotas(prefix: str, limits: Limits | KeyLimits) -> list[Quota]:
    given = ((field, getattr(limits, field.field)) for field in LIMIT_FIELDS)
    return [Quota(f"{prefix}{field.quota}", limit, field.seconds) for field, limit in given if limit is not None]
