"""The threshold for slow replies: from the best round trip and this process's own delays, within bounds."""

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


def test_near_redis_is_slow_after_25_milliseconds(latency: LatencyTracker) -> None:
    assert latency.slow_threshold == 0.025
    assert latency.reply_timeout == 0.2
    latency.record_round_trip(0.0003)
    assert latency.slow_threshold == 0.025


def test_threshold_of_a_distant_redis_depends_on_its_best_round_trip(latency: LatencyTracker) -> None:
    for seconds in (0.09, 0.03, 0.05):
        latency.record_round_trip(seconds)
    assert latency.slow_threshold == pytest.approx(0.09)
    assert latency.reply_timeout == pytest.approx(0.265)


def test_best_round_trip_expires(latency: LatencyTracker, clock: Clock) -> None:
    latency.record_round_trip(0.001)
    clock.advance(BEST_SECONDS)
    assert latency.slow_threshold == 0.025  # the best of the previous interval still counts
    latency.record_round_trip(0.04)
    clock.advance(BEST_SECONDS)
    assert latency.slow_threshold == pytest.approx(0.12)


def test_delay_of_this_process_extends_the_threshold(latency: LatencyTracker, clock: Clock) -> None:
    latency.record_delay(0.05)
    latency.record_delay(0.01)
    assert latency.slow_threshold == pytest.approx(0.225)
    clock.advance(LAG_SECONDS - 0.001)
    assert latency.slow_threshold == pytest.approx(0.225)
    clock.advance(0.001)
    assert latency.slow_threshold == 0.025


def test_smaller_delay_counts_after_the_larger_one_expired(latency: LatencyTracker, clock: Clock) -> None:
    latency.record_delay(0.05)
    clock.advance(LAG_SECONDS)
    latency.record_delay(0.01)
    assert latency.slow_threshold == pytest.approx(0.065)


def test_threshold_and_timeout_are_bounded(latency: LatencyTracker) -> None:
    latency.record_round_trip(10)
    latency.record_delay(10)
    assert latency.slow_threshold == 0.5
    assert latency.reply_timeout == pytest.approx(0.675)
