"""The lane of an address whose budget is spent: one at a time, few a second, and who comes back goes first."""

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
    """Whether it gets in; if so, its look-up is over at once."""
    entered = lanes.enter(names, credential)
    if entered:
        lanes.leave(names)
    return entered


def drain(lanes: Lanes, names: list[str]) -> int:
    """How many guesses, all different, get in before one is turned away."""
    entered = 0
    while passes(lanes, names, object()):
        entered += 1
    return entered


def test_one_is_in_at_a_time(lanes: Lanes) -> None:
    assert lanes.enter(ONE, "a")
    assert not lanes.enter(ONE, "b")
    assert lanes.enter(OTHER, "c"), "another address has a lane of its own"
    lanes.leave(ONE)
    assert lanes.enter(ONE, "b")


def test_guesses_get_in_so_often_a_second(lanes: Lanes, clock: Clock) -> None:
    assert drain(lanes, ONE) == BURST - RESERVED
    entered = 0
    for _ in range(100):
        clock.advance(0.1)
        entered += drain(lanes, ONE)
    assert entered == pytest.approx(10 * PER_SECOND, abs=1)


def test_who_comes_back_goes_first(lanes: Lanes, clock: Clock) -> None:
    drain(lanes, ONE)
    assert not passes(lanes, ONE, "good")
    for _ in range(1_000):
        assert not passes(lanes, ONE, object())
    clock.advance(1)
    assert passes(lanes, ONE, "good")


def test_who_comes_back_again_and_again_has_no_more_than_the_lane(lanes: Lanes, clock: Clock) -> None:
    drain(lanes, ONE)
    entered = 0
    for _ in range(100):
        clock.advance(0.1)
        entered += passes(lanes, ONE, "persistent") or passes(lanes, ONE, "persistent")
    assert entered <= 10 * PER_SECOND + RESERVED


def test_two_lanes_are_taken_together_or_not_at_all(lanes: Lanes) -> None:
    assert lanes.enter(OTHER, "a")
    assert not lanes.enter([*ONE, *OTHER], "b")
    assert lanes.enter(ONE, "c")


def test_memory_is_bounded_and_a_lane_in_use_stays(clock: Clock) -> None:
    lanes = Lanes(max_lanes=10, max_turned_away=10, clock=clock)
    assert lanes.enter(ONE, "a")
    for number in range(100):
        assert passes(lanes, [f"address:{number}"], object())
        assert not lanes.enter(ONE, object())
    assert len(lanes._lanes) == 10
    assert len(lanes._turned_away) == 10
