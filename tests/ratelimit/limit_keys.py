"""Rate limit keys: the account acme, its API key `ci`, and the separate account globex."""

from __future__ import annotations

from kataven.ratelimit.policy import (
    DAY,
    HOUR,
    LIMIT_FIELDS,
    MINUTE,
    KeyLimits,
    Limits,
    Quota,
    QuotaSet,
    RateLimitKey,
    account_quota_set,
    key_quota_set,
)

WIDE = Limits(**{limit.field: 1_000_000 for limit in LIMIT_FIELDS})
WINDOWS = (MINUTE, HOUR, DAY)


def acme(limits: Limits = WIDE) -> RateLimitKey:
    return RateLimitKey("account:{acme}", account_quota_set(limits))


def globex(limits: Limits = WIDE) -> RateLimitKey:
    return RateLimitKey("account:{globex}", account_quota_set(limits))


def ci_key(limits: KeyLimits) -> RateLimitKey:
    return RateLimitKey("key:{acme}:ci", key_quota_set(limits))


def one_window(limit: int, seconds: int) -> RateLimitKey:
    return RateLimitKey("account:{acme}", QuotaSet(Quota("window", limit, seconds)))
