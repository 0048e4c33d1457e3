"""Sliding windows and concurrency slots: the behaviour that Redis and in-memory windows share."""

from __future__ import annotations

import pytest

from kataven.ratelimit.policy import DAY, HOUR, MINUTE, KeyLimits, Limits
from kataven.ratelimit.windows import Windows
from tests.ratelimit.limit_keys import WIDE, acme, ci_key, globex, one_window
from tests.support.clock import Clock


@pytest.mark.parametrize("seconds", [MINUTE, HOUR, DAY])
def test_requests_up_to_the_limit_are_admitted_and_the_next_is_rejected(windows: Windows, seconds: int) -> None:
    limit_key = one_window(3, seconds)
    assert [windows.take((limit_key,), "").admitted for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("seconds", [MINUTE, HOUR, DAY])
def test_request_expires_when_it_is_exactly_one_window_old(windows: Windows, clock: Clock, seconds: int) -> None:
    limit_key = one_window(1, seconds)
    windows.take((limit_key,), "")
    clock.advance(seconds - 0.001)
    assert not windows.take((limit_key,), "").admitted
    clock.advance(0.001)
    assert windows.take((limit_key,), "").admitted


def test_window_slides_and_does_not_reset(windows: Windows, clock: Clock) -> None:
    limit_key = one_window(2, MINUTE)
    windows.take((limit_key,), "")
    clock.advance(30)
    windows.take((limit_key,), "")
    clock.advance(30)
    assert windows.take((limit_key,), "").admitted
    assert not windows.take((limit_key,), "").admitted


@pytest.mark.parametrize("seconds", [MINUTE, HOUR, DAY])
def test_request_expires_at_most_a_sixtieth_of_the_window_late(windows: Windows, clock: Clock, seconds: int) -> None:
    limit_key, bucket = one_window(2, seconds), seconds / 60
    assert clock.now % bucket == 0
    windows.take((limit_key,), "")
    clock.advance(bucket * 0.9)
    windows.take((limit_key,), "")
    clock.advance(seconds - bucket * 0.9)
    assert not windows.take((limit_key,), "").admitted  # the first has the bucket of the second
    clock.advance(bucket * 0.9)
    assert windows.take((limit_key,), "").admitted


@pytest.mark.parametrize("seconds", [MINUTE, HOUR, DAY])
def test_requests_in_different_buckets_expire_separately(windows: Windows, clock: Clock, seconds: int) -> None:
    limit_key, bucket = one_window(2, seconds), seconds / 60
    windows.take((limit_key,), "")
    clock.advance(bucket)
    windows.take((limit_key,), "")
    clock.advance(seconds - bucket)
    assert windows.take((limit_key,), "").admitted


def test_remaining_counts_down_to_zero(windows: Windows) -> None:
    remaining = [windows.take((one_window(3, MINUTE),), "").quota_statuses[0].remaining for _ in range(4)]
    assert remaining == [2, 1, 0, 0]


@pytest.mark.parametrize("seconds", [MINUTE, HOUR, DAY])
@pytest.mark.parametrize("apart", [0.0, 0.3, 7.0, 50.0, 900.0])
def test_retry_after_is_exact_to_the_second(windows: Windows, clock: Clock, seconds: int, apart: float) -> None:
    limit_key = one_window(4, seconds)
    while (refusal := windows.take((limit_key,), "")).admitted:
        clock.advance(apart if 4 * apart < seconds else 0)
    retry_after = refusal.retry_after_seconds
    assert retry_after is not None
    assert 1 <= retry_after <= seconds
    clock.advance(retry_after - 1)
    assert not windows.take((limit_key,), "").admitted
    clock.advance(1)
    assert windows.take((limit_key,), "").admitted


def test_lowered_limit_applies_immediately_and_retry_after_is_correct(windows: Windows, clock: Clock) -> None:
    for _ in range(5):
        windows.take((one_window(10, MINUTE),), "")
        clock.advance(2)
    refusal = windows.take((one_window(2, MINUTE),), "")
    # Of the requests at 0, 2, 4, 6 and 8 s, four must expire. The current time is 10 s.
    assert refusal.retry_after_seconds == 66 - 10
    assert refusal.quota_statuses[0].remaining == 0


def test_raised_limit_applies_immediately(windows: Windows) -> None:
    windows.take((one_window(1, MINUTE),), "")
    assert not windows.take((one_window(1, MINUTE),), "").admitted
    assert windows.take((one_window(2, MINUTE),), "").admitted


def test_rejection_names_the_limit_with_the_longest_wait(windows: Windows) -> None:
    limits = Limits(per_minute=2, per_hour=2, per_day=5)
    for slot in "ab":
        windows.take((acme(limits),), slot)
    refusal = windows.take((acme(limits),), "c")
    assert refusal.detail == "per-hour (2) exceeded"
    assert refusal.retry_after_seconds == HOUR


def test_rejection_by_one_window_consumes_nothing_from_the_others(windows: Windows, clock: Clock) -> None:
    limits = Limits(per_minute=1, per_hour=3)
    windows.take((acme(limits),), "a")
    before = windows.peek((acme(limits),))
    for slot in "bcd":
        assert not windows.take((acme(limits),), slot).admitted
    assert windows.peek((acme(limits),)) == before
    clock.advance(MINUTE)
    assert [quota_status.remaining for quota_status in windows.peek((acme(limits),)).quota_statuses[:2]] == [1, 2]


def test_key_over_its_own_limit_does_not_consume_the_account_limit(windows: Windows) -> None:
    account, key = acme(), ci_key(KeyLimits(per_minute=2))
    for slot in "ab":
        windows.take(
            (
                account,
                key,
            ),
            slot,
        )
    before = windows.peek((account,))
    refusal = windows.take(
        (
            account,
            key,
        ),
        "c",
    )
    assert refusal.detail == "key-per-minute (2) exceeded"
    assert windows.peek((account,)) == before
    assert windows.take((account,), "d").admitted


def test_account_over_its_limit_does_not_consume_the_key_limits(windows: Windows) -> None:
    account, key = acme(Limits(per_minute=1)), ci_key(KeyLimits(per_minute=5))
    windows.take(
        (
            account,
            key,
        ),
        "a",
    )
    before = windows.peek((key,))
    assert not windows.take(
        (
            account,
            key,
        ),
        "b",
    ).admitted
    assert windows.peek((key,)) == before


def test_accounts_share_no_counters(windows: Windows) -> None:
    windows.take((acme(Limits(per_minute=1, concurrent=1)),), "a")
    assert not windows.take((acme(Limits(per_minute=1, concurrent=1)),), "b").admitted
    assert windows.take((globex(Limits(per_minute=1, concurrent=1)),), "c").admitted


def test_peek_consumes_nothing(windows: Windows) -> None:
    limit_key = one_window(1, MINUTE)
    for _ in range(3):
        assert windows.peek((limit_key,)).quota_statuses[0].remaining == 1
    assert windows.take((limit_key,), "").admitted
    assert not windows.peek((limit_key,)).admitted


def test_requests_over_the_concurrency_limit_are_rejected_until_a_slot_is_released(windows: Windows) -> None:
    limits = Limits(concurrent=2)
    limit_keys = (acme(limits),)
    assert windows.take(limit_keys, "a").admitted
    assert windows.take(limit_keys, "b").admitted
    refusal = windows.take(limit_keys, "c")
    assert refusal.detail == "concurrent (2) exceeded"
    assert refusal.retry_after_seconds == 1
    windows.release(limit_keys, "a")
    assert windows.take(limit_keys, "c").admitted
    assert not windows.take(limit_keys, "d").admitted


def test_slot_released_twice_frees_one_slot(windows: Windows) -> None:
    limit_keys = (acme(Limits(concurrent=2)),)
    windows.take(limit_keys, "a")
    windows.take(limit_keys, "b")
    windows.release(limit_keys, "a")
    windows.release(limit_keys, "a")
    assert windows.peek(limit_keys).quota_statuses[-1].used == 1


def test_slot_of_a_key_counts_toward_its_account(windows: Windows) -> None:
    limit_keys = (
        acme(Limits(concurrent=5)),
        ci_key(KeyLimits(concurrent=1)),
    )
    windows.take(limit_keys, "a")
    assert windows.take(limit_keys, "b").detail == "key-concurrent (1) exceeded"
    assert windows.peek(limit_keys[:1]).quota_statuses[-1].used == 1
    windows.release(limit_keys, "a")
    assert windows.take(limit_keys, "b").admitted


def test_rejected_request_acquires_no_slot(windows: Windows, clock: Clock) -> None:
    limits = Limits(per_minute=1, concurrent=20)
    windows.take((acme(limits),), "a")
    windows.release((acme(limits),), "a")
    windows.take((acme(limits),), "b")
    assert windows.peek((acme(limits),)).quota_statuses[-1].used == 0


def test_removed_key_limit_is_no_longer_counted(windows: Windows) -> None:
    windows.take((ci_key(KeyLimits(per_minute=1, per_hour=10)),), "a")
    assert not windows.take((ci_key(KeyLimits(per_minute=1, per_hour=10)),), "b").admitted
    assert windows.take((ci_key(KeyLimits(per_hour=10)),), "c").quota_statuses[0].used == 2


def test_clock_set_back_keeps_all_counts(windows: Windows, clock: Clock) -> None:
    limit_key = one_window(2, MINUTE)
    windows.take((limit_key,), "")
    clock.advance(-20)
    windows.take((limit_key,), "")
    assert not windows.take((limit_key,), "").admitted
    clock.advance(79)
    assert not windows.take((limit_key,), "").admitted
    clock.advance(1)
    assert windows.take((limit_key,), "").admitted


def test_clock_set_back_by_more_than_a_window_does_not_block_requests(windows: Windows, clock: Clock) -> None:
    limit_key = one_window(1, MINUTE)
    windows.take((limit_key,), "")
    clock.advance(-DAY)
    assert windows.take((limit_key,), "").admitted


def test_decision_contains_every_quota_of_account_and_key(windows: Windows) -> None:
    decision = windows.take(
        (
            acme(WIDE),
            ci_key(KeyLimits(per_minute=5, concurrent=2)),
        ),
        "a",
    )
    assert [(quota_status.quota.name, quota_status.used) for quota_status in decision.quota_statuses] == [
        ("per-minute", 1),
        ("per-hour", 1),
        ("per-day", 1),
        ("concurrent", 1),
        ("key-per-minute", 1),
        ("key-concurrent", 1),
    ]


# Cost.


def test_cost_consumes_as_many_units_of_every_window_and_one_slot(windows: Windows) -> None:
    limits = Limits(per_minute=10, per_hour=20, per_day=30, concurrent=2)
    decision = windows.take((acme(limits),), "a", 4)
    assert [quota_status.used for quota_status in decision.quota_statuses] == [4, 4, 4, 1]
    decision = windows.take((acme(limits),), "b", 6)
    assert (decision.admitted, [found.used for found in decision.quota_statuses]) == (True, [10, 10, 10, 2])


def test_cost_above_what_is_left_of_any_window_consumes_nothing(windows: Windows) -> None:
    limit_keys = (acme(Limits(per_minute=10)), ci_key(KeyLimits(per_minute=5)))
    windows.take(limit_keys, "a", 3)
    before = windows.peek(limit_keys)
    refusal = windows.take(limit_keys, "b", 3)
    assert not refusal.admitted
    assert refusal.detail == "a cost of 3 exceeds the 2 left of key-per-minute (5)"
    assert windows.peek(limit_keys) == before
    assert windows.take(limit_keys, "b", 2).admitted


def test_retry_after_is_until_the_cost_fits(windows: Windows, clock: Clock) -> None:
    limit_key = one_window(10, MINUTE)
    for _ in range(2):
        windows.take((limit_key,), "", 4)
        clock.advance(10)
    assert windows.peek((limit_key,), 2).admitted
    assert windows.take((limit_key,), "", 5).retry_after_seconds == 40  # the first 4 leave
    assert windows.take((limit_key,), "", 7).retry_after_seconds == 50  # and the other 4
    clock.advance(40)
    assert windows.take((limit_key,), "", 5).admitted


def test_cost_above_a_limit_names_this_limit(windows: Windows) -> None:
    limit_key = acme(Limits(per_minute=5, per_hour=100))
    windows.take((limit_key,), "", 5)
    refusal = windows.take((limit_key,), "", 50)
    assert refusal.detail == "a cost of 50 exceeds the whole of per-minute (5)"
    assert refusal.retry_after_seconds == 60


def test_cost_0_is_admitted_at_the_limit(windows: Windows) -> None:
    windows.take((one_window(1, MINUTE),), "")
    assert not windows.peek((one_window(1, MINUTE),)).admitted
    assert windows.peek((one_window(1, MINUTE),), 0).admitted
