"""Limits, their validation, and the response headers."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from kataven.ratelimit.decision import Decision
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import LIMIT_FIELDS, MAX_LIMIT, KeyLimits, Limits, account_quota_set
from tests.ratelimit.limit_keys import acme, ci_key, globex
from tests.support.clock import Clock

WINDOWS = '"per-minute";q=60;w=60, "per-hour";q=1000;w=3600, "per-day";q=10000;w=86400'


def test_default_limits() -> None:
    assert Limits() == Limits(per_minute=60, per_hour=1_000, per_day=10_000, concurrent=20)
    assert KeyLimits() == KeyLimits(per_minute=None, per_hour=None, per_day=None, concurrent=None)


@pytest.mark.parametrize("value", [0, -1, 1.5, "60", True, MAX_LIMIT + 1])
@pytest.mark.parametrize("name", [limit.field for limit in LIMIT_FIELDS])
def test_invalid_limit_is_rejected_with_its_field(name: str, value: Any) -> None:
    for limits in (Limits, KeyLimits):
        with pytest.raises(ValueError, match=name):
            limits(**{name: value})


def test_every_limit_has_a_field_for_accounts_and_keys() -> None:
    names = [limit.field for limit in LIMIT_FIELDS]
    assert [field.name for field in fields(Limits)] == names
    assert [field.name for field in fields(KeyLimits)] == names


def test_account_must_have_every_limit() -> None:
    with pytest.raises(ValueError, match="per_hour"):
        Limits(per_hour=None)  # type: ignore[arg-type]


def test_quota_set_of_equal_limits_is_cached() -> None:
    assert account_quota_set(Limits()) is account_quota_set(Limits())


def test_headers_of_an_admitted_request(memory_windows: MemoryWindows) -> None:
    assert memory_windows.take((acme(Limits()),), "a").headers() == [
        ("RateLimit-Policy", f'{WINDOWS}, "concurrent";q=20;qu="concurrent-requests"'),
        ("RateLimit", '"per-minute";r=59;t=60, "per-hour";r=999;t=3600, "per-day";r=9999;t=86400, "concurrent";r=19'),
    ]


def test_limits_of_a_key_have_separate_names(memory_windows: MemoryWindows) -> None:
    decision = memory_windows.take(
        (
            acme(Limits()),
            ci_key(KeyLimits(per_minute=5, concurrent=2)),
        ),
        "a",
    )
    policy, limit = (value for _, value in decision.headers())
    assert policy.endswith(', "key-per-minute";q=5;w=60, "key-concurrent";q=2;qu="concurrent-requests"')
    assert limit.endswith(', "key-per-minute";r=4;t=60, "key-concurrent";r=1')


def refused(windows: MemoryWindows, limits: Limits) -> Decision:
    while (decision := windows.take((acme(limits),), "a")).admitted:
        pass
    return decision


def test_headers_of_a_rejection_are_consistent(memory_windows: MemoryWindows, clock: Clock) -> None:
    memory_windows.take((acme(Limits(per_minute=2)),), "a")
    clock.advance(18.5)
    headers = dict(refused(memory_windows, Limits(per_minute=2)).headers())
    assert headers["Retry-After"] == "42"
    assert '"per-minute";r=0;t=42' in headers["RateLimit"]


def test_rejection_by_concurrency_has_a_short_retry_after(memory_windows: MemoryWindows) -> None:
    memory_windows.take((acme(Limits(concurrent=1)),), "a")
    refusal = memory_windows.take((acme(Limits(concurrent=1)),), "b")
    assert refusal.detail == "concurrent (1) exceeded"
    assert dict(refusal.headers())["Retry-After"] == "1"


def test_admitted_request_has_no_retry_after(memory_windows: MemoryWindows) -> None:
    decision = memory_windows.take((acme(Limits()),), "a")
    assert (decision.refused_by, decision.retry_after_seconds, decision.detail) == (None, None, "")


def test_least_recently_used_keys_are_evicted(clock: Clock) -> None:
    windows = MemoryWindows(max_keys=2, clock=clock)
    windows.take((acme(),), "a")
    windows.take((globex(),), "b")
    windows.take((acme(),), "c")
    windows.take((ci_key(KeyLimits(per_minute=1)),), "d")
    assert windows.peek((acme(),)).quota_statuses[0].used == 2
    assert windows.peek((globex(),)).quota_statuses[0].used == 0
