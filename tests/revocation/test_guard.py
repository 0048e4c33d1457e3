"""What a worker may believe, and when it has to forget."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kataven.revocation import EVERYTHING, Guard, Scope
from kataven.revocation.epoch import Epoch, Event, body
from kataven.revocation.guard import RECENT_EVENTS
from kataven.revocation.lease import Lease
from kataven.revocation.notices import Notice
from tests.revocation.conftest import HERE, LEASE_SECONDS, READING_SECONDS
from tests.support.clock import Clock

ACME = Scope("acme")
ALICES_KEY = Scope("acme", "alices-key")
CHARLIES_KEY = Scope("globex", "charlies-key")


def event(scope: Scope, count: int, redis: str = HERE.redis) -> Event:
    """The event that raises the epoch to `count`."""
    return Event(Epoch(redis, count - 1), Epoch(redis, count), scope, "answer")


@pytest.fixture
def forgotten(guard: Guard) -> list[Scope]:
    scopes: list[Scope] = []
    guard.subscribe(scopes.append)
    return scopes


def test_lease_is_counted_from_before_it_was_asked_for(guard: Guard, clock: Clock) -> None:
    asked_at = clock()
    clock.advance(0.7)  # the answer took its time
    guard.confirmed(asked_at, HERE)
    clock.advance(0.2)
    assert guard.holds()
    clock.advance(0.1)
    assert not guard.holds()


def test_no_lease_holds_before_the_first_was_confirmed(clock: Clock) -> None:
    assert not Guard(Lease(LEASE_SECONDS, clock), Lease(LEASE_SECONDS, clock)).holds()


def test_event_that_follows_makes_the_worker_forget_what_it_covers_and_no_more(
    guard: Guard, forgotten: list[Scope]
) -> None:
    guard.heard(event(ALICES_KEY, HERE.count + 1))
    guard.heard(event(ACME, HERE.count + 2))
    assert forgotten == [ALICES_KEY, ACME]


def test_event_after_a_missed_one_makes_the_worker_forget_everything(guard: Guard, forgotten: list[Scope]) -> None:
    guard.heard(event(ALICES_KEY, HERE.count + 2))
    assert forgotten == [EVERYTHING]
    guard.heard(event(ALICES_KEY, HERE.count + 3))
    assert forgotten == [EVERYTHING, ALICES_KEY]


@pytest.mark.parametrize("elsewhere", [Epoch(HERE.redis, 8), Epoch(HERE.redis, 6), Epoch("redis-b", HERE.count)])
def test_renewal_at_another_epoch_makes_the_worker_forget_everything(
    guard: Guard, forgotten: list[Scope], clock: Clock, elsewhere: Epoch
) -> None:
    guard.moved(elsewhere.redis)
    guard.confirmed(clock(), elsewhere)
    assert forgotten == [EVERYTHING]
    guard.confirmed(clock(), elsewhere)
    assert forgotten == [EVERYTHING]


def test_worker_whose_lease_lapsed_forgets_everything_before_it_holds_again(guard: Guard, clock: Clock) -> None:
    held_while_forgetting: list[bool] = []
    guard.subscribe(lambda _: held_while_forgetting.append(guard.holds()))
    clock.advance(LEASE_SECONDS)
    guard.confirmed(clock(), HERE)
    assert held_while_forgetting == [False]
    assert guard.holds()


def test_worker_that_renews_in_time_and_missed_nothing_keeps_what_it_has(
    guard: Guard, forgotten: list[Scope], clock: Clock
) -> None:
    clock.advance(LEASE_SECONDS * 0.9)
    guard.confirmed(clock(), HERE)
    assert forgotten == []


def test_lease_is_not_renewed_while_a_memory_can_not_forget(guard: Guard, clock: Clock) -> None:
    def broken(_: Scope) -> None:
        raise RuntimeError("stuck")

    guard.subscribe(broken)
    clock.advance(LEASE_SECONDS)
    with pytest.raises(RuntimeError, match="stuck"):
        guard.confirmed(clock(), HERE)
    assert not guard.holds()


def test_answer_is_kept_if_nothing_came_between(guard: Guard) -> None:
    kept: list[str] = []
    assert guard.finish_fill(guard.begin_fill(), ALICES_KEY, lambda: kept.append("answer"))
    assert kept == ["answer"]


@pytest.mark.parametrize("revoked", [ALICES_KEY, ACME, EVERYTHING])
def test_answer_is_not_kept_if_an_event_that_covers_it_came_between(guard: Guard, revoked: Scope) -> None:
    kept: list[str] = []
    ticket = guard.begin_fill()
    guard.heard(event(revoked, HERE.count + 1))
    assert not guard.finish_fill(ticket, ALICES_KEY, lambda: kept.append("stale"))
    assert kept == []


@pytest.mark.parametrize("revoked", [CHARLIES_KEY, Scope("acme", "another-key"), Scope("globex")])
def test_answer_is_kept_if_the_event_that_came_between_is_about_something_else(guard: Guard, revoked: Scope) -> None:
    ticket = guard.begin_fill()
    guard.heard(event(revoked, HERE.count + 1))
    assert guard.finish_fill(ticket, ALICES_KEY, lambda: None)


def test_answer_that_took_more_events_than_are_remembered_is_not_kept(guard: Guard) -> None:
    ticket = guard.begin_fill()
    for number in range(RECENT_EVENTS + 1):
        guard.heard(event(CHARLIES_KEY, HERE.count + 1 + number))
    assert not guard.finish_fill(ticket, ALICES_KEY, lambda: None)


def test_answer_that_came_by_way_of_a_memory_which_was_still_to_forget_is_not_kept(guard: Guard) -> None:
    """The inner memory is asked in the very moment in which the event has begun to be heard."""
    inner, outer = ["open"], list[str]()
    late: list[Callable[[], bool]] = []

    def ask_the_inner_and_fill_the_outer_later(_: Scope) -> None:
        ticket, answer = guard.begin_fill(), inner[0]
        late.append(lambda: guard.finish_fill(ticket, ALICES_KEY, lambda: outer.append(answer)))

    guard.subscribe(ask_the_inner_and_fill_the_outer_later)
    guard.subscribe(lambda _: inner.__setitem__(0, "suspended"))
    guard.subscribe(lambda _: outer.clear())
    guard.heard(event(ACME, HERE.count + 1))
    assert not late[0]()
    assert outer == []


def test_lease_from_another_redis_counts_only_once_it_is_written_down(
    guard: Guard, forgotten: list[Scope], clock: Clock
) -> None:
    moved: list[None] = []
    guard.on_move = lambda: moved.append(None)
    there = Epoch("redis-b", 3)
    guard.confirmed(clock(), there)
    guard.confirmed(clock(), there)
    assert (guard.holds(), guard.renews_at, len(moved)) == (False, None, 1)
    assert guard.move_to_write() == ("redis-b", True)
    guard.moved("redis-b")
    assert not guard.holds()
    guard.confirmed(clock(), there)
    assert (guard.holds(), guard.renews_at) == (True, "redis-b")
    assert set(forgotten) == {EVERYTHING}
    assert len(forgotten) == 3  # as it left, and again with each renewal until the new lease holds


def test_no_lease_counts_while_it_is_unknown_what_is_written_down(guard: Guard, clock: Clock) -> None:
    """The worker went to another Redis and came back, while the former was being written down."""
    guard.confirmed(clock(), Epoch("redis-b", 3))
    assert guard.move_to_write() == ("redis-b", True)
    guard.confirmed(clock(), HERE)
    assert not guard.holds()
    guard.moved("redis-b")  # the write took effect
    guard.confirmed(clock(), HERE)
    assert not guard.holds()
    assert guard.move_to_write() == (HERE.redis, True)
    guard.moved(HERE.redis)
    guard.confirmed(clock(), HERE)
    assert guard.holds()


def test_lease_does_not_hold_with_what_was_remembered_before_its_home_was_written(guard: Guard, clock: Clock) -> None:
    """The home is written after the worker forgot and before the guard confirms the lease.

    A revoker that read the homes before that write does not wait for this worker. So the worker has to forget what a
    request, which found the former lease holding, remembered in between.
    """
    remembered: list[str] = []
    held_up = guard.holds()
    there = Epoch("redis-b", 3)
    guard.confirmed(clock(), there)
    redis, _ = guard.move_to_write()

    def memory(_: Scope) -> None:
        remembered.clear()
        if held_up and redis:
            assert guard.finish_fill(guard.begin_fill(), ALICES_KEY, lambda: remembered.append("a key"))
            guard.moved(redis)

    guard.subscribe(memory)
    guard.confirmed(clock(), there)
    assert remembered
    assert not guard.holds()
    held_up = False
    guard.confirmed(clock(), there)
    assert (guard.holds(), remembered) == (True, [])


def test_event_from_a_redis_that_forgot_its_workers_ends_the_lease(guard: Guard, forgotten: list[Scope]) -> None:
    guard.heard(Event(Epoch("redis-a reborn", 0), Epoch("redis-a reborn", 1), ACME, "answer"))
    assert not guard.holds()
    assert forgotten == [EVERYTHING]


def test_worker_that_did_not_write_in_time_that_it_reads_forgets_everything(
    guard: Guard, forgotten: list[Scope], clock: Clock
) -> None:
    """It may have been taken off the list that revokers read."""
    clock.advance(READING_SECONDS - 1)
    guard.noticed(clock(), Notice(1, "a mark"))
    assert forgotten == []
    clock.advance(READING_SECONDS)
    guard.noticed(clock(), Notice(1, "a mark"))
    assert forgotten == [EVERYTHING]


def test_revocation_that_was_begun_and_not_completed_makes_the_worker_forget_what_it_covers(
    guard: Guard, forgotten: list[Scope]
) -> None:
    ticket = guard.begin_fill()
    guard.reminded(ALICES_KEY)
    assert forgotten == [ALICES_KEY]
    assert not guard.finish_fill(ticket, ALICES_KEY, lambda: None)
    assert guard.holds()


def test_message_reads_back_as_the_event_that_was_published() -> None:
    message = f"redis-a 8 {body(ALICES_KEY, 'answer')}"
    assert Event.parse(message) == Event(Epoch("redis-a", 7), Epoch("redis-a", 8), ALICES_KEY, "answer")
