"""What counts as a slow answer: by the best of this Redis, by how late this process is, and never without end."""

from __future__ import annotations

import pytest

from kataven.ratelimit.pace import BEST_SECONDS, LAG_SECONDS, Pace, Patience
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(Patience(), clock)


def test_redis_that_is_near_is_slow_after_25_milliseconds(pace: Pace) -> None:
    assert pace.slow_after == 0.025
    assert pace.answer_within == 0.2
    pace.took(0.0003)
    assert pace.slow_after == 0.025


def test_redis_that_is_far_is_judged_by_its_best_round_trip(pace: Pace) -> None:
    for seconds in (0.09, 0.03, 0.05):
        pace.took(seconds)
    assert pace.slow_after == pytest.approx(0.09)
    assert pace.answer_within == pytest.approx(0.265)


def test_best_round_trip_is_forgotten_when_redis_has_moved_farther_away(pace: Pace, clock: Clock) -> None:
    pace.took(0.001)
    clock.advance(BEST_SECONDS)
    assert pace.slow_after == 0.025  # the best of the time before is still known
    pace.took(0.04)
    clock.advance(BEST_SECONDS)
    assert pace.slow_after == pytest.approx(0.12)


def test_delay_of_this_process_is_no_delay_of_redis(pace: Pace, clock: Clock) -> None:
    pace.overslept(0.05)
    pace.overslept(0.01)
    assert pace.slow_after == pytest.approx(0.225)
    clock.advance(LAG_SECONDS - 0.001)
    assert pace.slow_after == pytest.approx(0.225)
    clock.advance(0.001)
    assert pace.slow_after == 0.025


def test_smaller_delay_counts_once_the_greater_one_is_long_ago(pace: Pace, clock: Clock) -> None:
    pace.overslept(0.05)
    clock.advance(LAG_SECONDS)
    pace.overslept(0.01)
    assert pace.slow_after == pytest.approx(0.065)


def test_no_answer_is_waited_for_without_end(pace: Pace) -> None:
    pace.took(10)
    pace.overslept(10)
    assert pace.slow_after == 0.5
    assert pace.answer_within == pytest.approx(0.675)
