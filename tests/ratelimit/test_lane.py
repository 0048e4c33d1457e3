"""Lanes for addresses with an exhausted budget: one lookup at a time, a few per second, and retries first."""

from __future__ import annotations

import pytest

from kataven.ratelimit.lane import BURST, PER_SECOND, RESERVED, Lanes
from tests.support.clock import Clock

ONE = ["address:198.51.100.23"]
OTHER = ["address:198.51.100.24"]


@pytest.fixture
def lanes(clock: Clock) -> Lanes:
    return Lanes(clock=clock)


def passes(lanes: Lanes, names: list[str], credential: object) -> bool:
    """Whether the lane admits the credential. If so, its lookup ends immediately."""
    entered = lanes.enter(names, credential)
    if entered:
        lanes.leave(names)
    return entered


def drain(lanes: Lanes, names: list[str]) -> int:
    """How many different credentials are admitted before one is rejected."""
    entered = 0
    while passes(lanes, names, object()):
        entered += 1
    return entered


def test_lane_admits_one_lookup_at_a_time(lanes: Lanes) -> None:
    assert lanes.enter(ONE, "a")
    assert not lanes.enter(ONE, "b")
    assert lanes.enter(OTHER, "c"), "another address has a separate lane"
    lanes.leave(ONE)
    assert lanes.enter(ONE, "b")


def test_guesses_are_limited_to_the_rate_per_second(lanes: Lanes, clock: Clock) -> None:
    assert drain(lanes, ONE) == BURST - RESERVED
    entered = 0
    for _ in range(100):
        clock.advance(0.1)
        entered += drain(lanes, ONE)
    assert entered == pytest.approx(10 * PER_SECOND, abs=1)


def test_retry_has_priority_over_new_credentials(lanes: Lanes, clock: Clock) -> None:
    drain(lanes, ONE)
    assert not passes(lanes, ONE, "good")
    for _ in range(1_000):
        assert not passes(lanes, ONE, object())
    clock.advance(1)
    assert passes(lanes, ONE, "good")


def test_repeated_retries_do_not_exceed_the_rate_of_the_lane(lanes: Lanes, clock: Clock) -> None:
    drain(lanes, ONE)
    entered = 0
    for _ in range(100):
        clock.advance(0.1)
        entered += passes(lanes, ONE, "persistent") or passes(lanes, ONE, "persistent")
    assert entered <= 10 * PER_SECOND + RESERVED


def test_two_lanes_are_acquired_together_or_not_at_all(lanes: Lanes) -> None:
    assert lanes.enter(OTHER, "a")
    assert not lanes.enter([*ONE, *OTHER], "b")
    assert lanes.enter(ONE, "c")


def test_memory_is_bounded_and_busy_lanes_are_not_evicted(clock: Clock) -> None:
    lanes = Lanes(max_lanes=10, max_rejected=10, clock=clock)
    assert lanes.enter(ONE, "a")
    for number in range(100):
        assert passes(lanes, [f"address:{number}"], object())
        assert not lanes.enter(ONE, object())
    assert len(lanes._lanes) == 10
    assert len(lanes._rejected) == 10
