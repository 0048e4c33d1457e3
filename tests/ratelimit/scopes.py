"""The cast's scopes: acme's account and its key `ci`, and Charlie's globex, which nothing of acme's may touch."""

from __future__ import annotations

from kataven.ratelimit.policy import DAY, HOUR, MINUTE, KeyLimits, Limits, Plan, Quota, Scope, account_plan, key_plan

WIDE = Limits(per_minute=1_000_000, per_hour=1_000_000, per_day=1_000_000, concurrent=1_000_000)
WINDOWS = (MINUTE, HOUR, DAY)


def acme(limits: Limits = WIDE) -> Scope:
    return Scope("account:acme", account_plan(limits))


def globex(limits: Limits = WIDE) -> Scope:
    return Scope("account:globex", account_plan(limits))


def ci_key(limits: KeyLimits) -> Scope:
    return Scope("key:acme:ci", key_plan(limits))


def one_window(limit: int, seconds: int) -> Scope:
    return Scope("account:acme", Plan(Quota("window", limit, seconds)))
