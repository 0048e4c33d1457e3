"""When a worker may use its caches, and when it must evict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kataven.revocation import EVERYTHING, Guard, RevocationTarget
from kataven.revocation.epoch import Epoch, Event, encode_body
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.guard import RECENT_EVICTIONS
from kataven.revocation.lease import Lease
from tests.revocation.conftest import HERE, LEASE_SECONDS, READER_LEASE_SECONDS
from tests.support.clock import Clock

ACME = RevocationTarget("acme")
ALICES_KEY = RevocationTarget("acme", "alices-key")
CHARLIES_KEY = RevocationTarget("globex", "charlies-key")


def event(target: RevocationTarget, count: int, redis: str = HERE.redis) -> Event:
    """The event that increments the epoch to `count`."""
    return Event(Epoch(redis, count - 1), Epoch(redis, count), target, "ack-id")


@pytest.fixture
def evicted(guard: Guard) -> list[RevocationTarget]:
    scopes: list[RevocationTarget] = []
    guard.subscribe(scopes.append)
    return scopes


def test_lease_is_counted_from_before_the_renewal_was_sent(guard: Guard, clock: Clock) -> None:
    counted_from = clock()
    clock.advance(0.7)  # the reply is delayed
    guard.confirm_lease(counted_from, HERE)
    clock.advance(0.2)
    assert guard.leases_valid()
    clock.advance(0.1)
    assert not guard.leases_valid()


def test_no_lease_is_valid_before_the_first_renewal(clock: Clock) -> None:
    assert not Guard(Lease(LEASE_SECONDS, clock), Lease(LEASE_SECONDS, clock)).leases_valid()


def test_next_event_evicts_only_what_it_covers(guard: Guard, evicted: list[RevocationTarget]) -> None:
    guard.apply_event(event(ALICES_KEY, HERE.count + 1))
    guard.apply_event(event(ACME, HERE.count + 2))
    assert evicted == [ALICES_KEY, ACME]


def test_event_after_a_missed_one_clears_the_caches(guard: Guard, evicted: list[RevocationTarget]) -> None:
    guard.apply_event(event(ALICES_KEY, HERE.count + 2))
    assert evicted == [EVERYTHING]
    guard.apply_event(event(ALICES_KEY, HERE.count + 3))
    assert evicted == [EVERYTHING, ALICES_KEY]


@pytest.mark.parametrize("elsewhere", [Epoch(HERE.redis, 8), Epoch(HERE.redis, 6), Epoch("redis-b", HERE.count)])
def test_renewal_at_another_epoch_clears_the_caches(
    guard: Guard, evicted: list[RevocationTarget], clock: Clock, elsewhere: Epoch
) -> None:
    guard.home_written(elsewhere.redis)
    guard.confirm_lease(clock(), elsewhere)
    assert evicted == [EVERYTHING]
    guard.confirm_lease(clock(), elsewhere)
    assert evicted == [EVERYTHING]


def test_worker_whose_lease_expired_clears_its_caches_before_the_new_lease_is_valid(guard: Guard, clock: Clock) -> None:
    held_while_forgetting: list[bool] = []
    guard.subscribe(lambda _: held_while_forgetting.append(guard.leases_valid()))
    clock.advance(LEASE_SECONDS)
    guard.confirm_lease(clock(), HERE)
    assert held_while_forgetting == [False]
    assert guard.leases_valid()


def test_worker_that_renews_in_time_keeps_its_cache(
    guard: Guard, evicted: list[RevocationTarget], clock: Clock
) -> None:
    clock.advance(LEASE_SECONDS * 0.9)
    guard.confirm_lease(clock(), HERE)
    assert evicted == []


def test_lease_is_not_renewed_while_a_cache_fails_to_evict(guard: Guard, clock: Clock) -> None:
    def broken(_: RevocationTarget) -> None:
        raise RuntimeError("stuck")

    guard.subscribe(broken)
    clock.advance(LEASE_SECONDS)
    with pytest.raises(RuntimeError, match="stuck"):
        guard.confirm_lease(clock(), HERE)
    assert not guard.leases_valid()


def test_result_is_cached_if_no_event_arrived(guard: Guard) -> None:
    kept: list[str] = []
    assert guard.cache_result(guard.take_fill_token(), ALICES_KEY, lambda: kept.append("result"))
    assert kept == ["result"]


@pytest.mark.parametrize("revoked", [ALICES_KEY, ACME, EVERYTHING])
def test_result_is_not_cached_if_an_event_that_covers_it_arrived(guard: Guard, revoked: RevocationTarget) -> None:
    kept: list[str] = []
    fill_token = guard.take_fill_token()
    guard.apply_event(event(revoked, HERE.count + 1))
    assert not guard.cache_result(fill_token, ALICES_KEY, lambda: kept.append("stale"))
    assert kept == []


@pytest.mark.parametrize("revoked", [CHARLIES_KEY, RevocationTarget("acme", "another-key"), RevocationTarget("globex")])
def test_result_is_cached_if_the_event_covers_something_else(guard: Guard, revoked: RevocationTarget) -> None:
    fill_token = guard.take_fill_token()
    guard.apply_event(event(revoked, HERE.count + 1))
    assert guard.cache_result(fill_token, ALICES_KEY, lambda: None)


def test_result_is_not_cached_after_more_events_than_are_kept(guard: Guard) -> None:
    fill_token = guard.take_fill_token()
    for number in range(RECENT_EVICTIONS + 1):
        guard.apply_event(event(CHARLIES_KEY, HERE.count + 1 + number))
    assert not guard.cache_result(fill_token, ALICES_KEY, lambda: None)


def test_result_read_through_a_cache_that_had_not_evicted_is_not_cached(guard: Guard) -> None:
    """The inner cache is read while the event is being applied."""
    inner, outer = ["open"], list[str]()
    late: list[Callable[[], bool]] = []

    def ask_the_inner_and_fill_the_outer_later(_: RevocationTarget) -> None:
        fill_token, result = guard.take_fill_token(), inner[0]
        late.append(lambda: guard.cache_result(fill_token, ALICES_KEY, lambda: outer.append(result)))

    guard.subscribe(ask_the_inner_and_fill_the_outer_later)
    guard.subscribe(lambda _: inner.__setitem__(0, "suspended"))
    guard.subscribe(lambda _: outer.clear())
    guard.apply_event(event(ACME, HERE.count + 1))
    assert not late[0]()
    assert outer == []


def test_lease_from_another_redis_is_valid_only_after_the_home_is_written(
    guard: Guard, evicted: list[RevocationTarget], clock: Clock
) -> None:
    home_changes: list[None] = []
    guard.on_home_change = lambda: home_changes.append(None)
    there = Epoch("redis-b", 3)
    guard.confirm_lease(clock(), there)
    guard.confirm_lease(clock(), there)
    assert (guard.leases_valid(), guard.home_redis, len(home_changes)) == (False, None, 1)
    assert guard.home_to_write() == ("redis-b", True)
    guard.home_written("redis-b")
    assert not guard.leases_valid()
    guard.confirm_lease(clock(), there)
    assert (guard.leases_valid(), guard.home_redis) == (True, "redis-b")
    assert set(evicted) == {EVERYTHING}
    assert len(evicted) == 3  # when it moved, and at each renewal until the new lease is valid


def test_no_lease_is_valid_while_the_written_home_is_unknown(guard: Guard, clock: Clock) -> None:
    """The worker moved to another Redis and back while the former was being written."""
    guard.confirm_lease(clock(), Epoch("redis-b", 3))
    assert guard.home_to_write() == ("redis-b", True)
    guard.confirm_lease(clock(), HERE)
    assert not guard.leases_valid()
    guard.home_written("redis-b")  # the write took effect
    guard.confirm_lease(clock(), HERE)
    assert not guard.leases_valid()
    assert guard.home_to_write() == (HERE.redis, True)
    guard.home_written(HERE.redis)
    guard.confirm_lease(clock(), HERE)
    assert guard.leases_valid()


def test_lease_stays_invalid_with_results_cached_before_the_home_was_written(guard: Guard, clock: Clock) -> None:
    """The home is written after the worker cleared its caches and before the guard confirms the lease.

    A revoker that read the home Redis before that write does not wait for this worker. So the worker has to clear what
    a request cached in between, which had found the previous lease valid.
    """
    cached: list[str] = []
    request_in_progress = guard.leases_valid()
    there = Epoch("redis-b", 3)
    guard.confirm_lease(clock(), there)
    redis, _ = guard.home_to_write()

    def clear(_: RevocationTarget) -> None:
        cached.clear()
        if request_in_progress and redis:
            assert guard.cache_result(guard.take_fill_token(), ALICES_KEY, lambda: cached.append("a key"))
            guard.home_written(redis)

    guard.subscribe(clear)
    guard.confirm_lease(clock(), there)
    assert cached
    assert not guard.leases_valid()
    request_in_progress = False
    guard.confirm_lease(clock(), there)
    assert (guard.leases_valid(), cached) == (True, [])


def test_event_from_a_redis_that_lost_its_workers_drops_the_lease(
    guard: Guard, evicted: list[RevocationTarget]
) -> None:
    guard.apply_event(Event(Epoch("redis-a restarted", 0), Epoch("redis-a restarted", 1), ACME, "ack-id"))
    assert not guard.leases_valid()
    assert evicted == [EVERYTHING]


def test_worker_whose_reader_lease_expired_clears_its_caches(
    guard: Guard, evicted: list[RevocationTarget], clock: Clock
) -> None:
    """Another process may have removed it from the list of readers."""
    clock.advance(READER_LEASE_SECONDS - 1)
    guard.apply_notice(clock(), FallbackNotice(1, "a mark"))
    assert evicted == []
    clock.advance(READER_LEASE_SECONDS)
    guard.apply_notice(clock(), FallbackNotice(1, "a mark"))
    assert evicted == [EVERYTHING]


def test_overdue_intent_evicts_what_it_covers(guard: Guard, evicted: list[RevocationTarget]) -> None:
    fill_token = guard.take_fill_token()
    guard.apply_intent(ALICES_KEY)
    assert evicted == [ALICES_KEY]
    assert not guard.cache_result(fill_token, ALICES_KEY, lambda: None)
    assert guard.leases_valid()


def test_published_message_parses_to_the_same_event() -> None:
    message = f"redis-a 8 {encode_body(ALICES_KEY, 'ack-id')}"
    assert Event.parse(message) == Event(Epoch("redis-a", 7), Epoch("redis-a", 8), ALICES_KEY, "ack-id")
