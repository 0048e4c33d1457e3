"""What counts as a slow answer: by the best of this Redis, by how late this process is, and never without end."""

from __future__ import annotations

import pytest

from kataven.ratelimit.latency import BEST_SECONDS, LAG_SECONDS, LatencyTracker, RedisTimeouts
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def latency(clock: Clock) -> LatencyTracker:
    return LatencyTracker(RedisTimeouts(), clock)


def test_redis_that_is_near_is_slow_after_25_milliseconds(latency: LatencyTracker) -> None:
    assert latency.slow_after == 0.025
    assert latency.answer_within == 0.2
    latency.took(0.0003)
    assert latency.slow_after == 0.025


def test_redis_that_is_far_is_judged_by_its_best_round_trip(latency: LatencyTracker) -> None:
    for seconds in (0.09, 0.03, 0.05):
        latency.took(seconds)
    assert latency.slow_after == pytest.approx(0.09)
    assert latency.answer_within == pytest.approx(0.265)


def test_best_round_trip_is_forgotten_when_redis_has_moved_farther_away(latency: LatencyTracker, clock: Clock) -> None:
    latency.took(0.001)
    clock.advance(BEST_SECONDS)
    assert latency.slow_after == 0.025  # the best of the time before is still known
    latency.took(0.04)
    clock.advance(BEST_SECONDS)
    assert latency.slow_after == pytest.approx(0.12)


def test_delay_of_this_process_is_no_delay_of_redis(latency: LatencyTracker, clock: Clock) -> None:
    latency.overslept(0.05)
    latency.overslept(0.01)
    assert latency.slow_after == pytest.approx(0.225)
    clock.advance(LAG_SECONDS - 0.001)
    assert latency.slow_after == pytest.approx(0.225)
    clock.advance(0.001)
    assert latency.slow_after == 0.025


def test_smaller_delay_counts_once_the_greater_one_is_long_ago(latency: LatencyTracker, clock: Clock) -> None:
    latency.overslept(0.05)
    clock.advance(LAG_SECONDS)
    latency.overslept(0.01)
    assert latency.slow_after == pytest.approx(0.065)


def test_no_answer_is_waited_for_without_end(latency: LatencyTracker) -> None:
    latency.took(10)
    latency.overslept(10)
    assert latency.slow_after == 0.5
    assert latency.answer_within == pytest.approx(0.675)
