"""The worker's other thread, in life: it comes, reads, survives what goes wrong, and goes without leaving anything."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from kataven.revocation import EVERYTHING, Guard, RevocationTarget
from kataven.revocation.epoch import Epoch
from kataven.revocation.fallback.channel import FallbackUnreachable, PollerId
from kataven.revocation.fallback.poller import FallbackPoller, has_exited, pid_namespace
from kataven.revocation.lease import Lease
from tests.revocation.eventually import eventually
from tests.revocation.simulation.fallback_model import NoticesModel, NoticesOf


class Place:
    """A worker that reads, and what it can be kept from."""

    def __init__(self) -> None:
        self.reachable = True
        self.now = 0.0
        """By the notices' clock."""
        self.shared = NoticesModel()
        self.fallback = NoticesOf(self.shared, lambda: self.reachable, lambda: None, lambda: self.now)
        self.guard = Guard(Lease(0.02), Lease(30))
        self.reader = FallbackPoller(self.guard, self.fallback)
        self.forgotten: list[RevocationTarget] = []

    @property
    def lease_valid(self) -> bool:
        return self.guard.reader_lease.is_valid()


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    place.guard.subscribe(place.forgotten.append)
    yield place
    place.reader.stop()


def test_reader_forgets_and_then_says_that_it_has_read(place: Place) -> None:
    place.reader.start()
    place.reader.start()
    assert eventually(lambda: place.lease_valid)
    place.forgotten.clear()
    posted = place.fallback.post_notice()
    assert eventually(lambda: not place.fallback.readers_behind(posted.notice))
    assert place.forgotten == [EVERYTHING]
    assert [reader.pid for reader in posted.readers] == [os.getpid()]


def test_reader_that_stops_takes_itself_off_and_can_start_again(place: Place) -> None:
    place.reader.start()
    assert eventually(lambda: place.lease_valid)
    place.reader.stop()
    assert not place.lease_valid
    assert place.fallback.heartbeat_counts() == {}
    place.reader.start()
    assert eventually(lambda: place.lease_valid)


def test_reader_comes_back_by_itself_and_says_once_that_it_could_not(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.reachable = False
    place.reader.start()
    assert eventually(lambda: "can't be read" in caplog.text)
    assert not place.lease_valid
    place.reachable = True
    assert eventually(lambda: place.lease_valid)
    assert caplog.text.count("can't be read") == 1


def test_memory_that_can_not_forget_gets_no_lease_and_is_not_said_to_have_read(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.reader.start()
    assert eventually(lambda: place.lease_valid)
    broken = True

    def evict(_: RevocationTarget) -> None:
        if broken:
            raise SystemExit

    place.guard.subscribe(evict)
    posted = place.fallback.post_notice().notice
    assert eventually(lambda: "can't read notices" in caplog.text)
    assert place.fallback.readers_behind(posted)
    broken = False
    assert eventually(lambda: not place.fallback.readers_behind(posted))


def test_redis_that_a_worker_renews_at_is_written_down_at_once(place: Place) -> None:
    place.guard.on_home_change = place.reader.poll_soon
    place.reader.start()
    assert eventually(lambda: place.lease_valid)
    assert place.fallback.readers_with_other_home("redis-b") == frozenset()
    for redis in ("redis-a", "redis-b"):
        place.guard.confirm_lease(place.guard.lease.clock(), Epoch(redis, 1))
        assert eventually(lambda redis=redis: place.shared.redis[place.reader.id] == redis)  # type: ignore[misc]
    assert [reader.pid for reader in place.fallback.readers_with_other_home("redis-a")] == [os.getpid()]


def test_revocation_whose_revoker_died_is_forgotten_at_each_look_until_it_is_completed(place: Place) -> None:
    key = RevocationTarget("acme", "a key")
    place.reader.poll()
    place.forgotten.clear()
    intent = place.fallback.add_intent(key)
    place.reader.poll()
    assert place.forgotten == []  # its revoker has a moment
    place.now += 1
    place.reader.poll()
    place.reader.poll()
    assert place.forgotten == [key, key]
    place.reader.remove_intent_later(intent)
    place.reader.poll()
    assert place.forgotten == [key, key]


def test_intent_that_could_not_be_completed_is_completed_with_the_next_look(place: Place) -> None:
    intent = place.fallback.add_intent(RevocationTarget("acme"))
    place.reader.remove_intent_later(intent)
    place.reachable = False
    with pytest.raises(FallbackUnreachable):
        place.reader.poll()
    place.reachable = True
    place.reader.poll()
    assert place.shared.intents == {}


def test_process_is_dead_only_where_that_can_be_seen() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert has_exited(PollerId("x", pid_namespace(), ended.pid))
    assert not has_exited(PollerId("x", "another host", ended.pid))
    assert not has_exited(PollerId("x", pid_namespace(), os.getpid()))
    assert not has_exited(PollerId("x", pid_namespace(), 1))
