"""The coordination store: real Redis with the Lua scripts, and the simulated Redis, must return the same results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from kataven.revocation import RevocationTarget
from kataven.revocation.coordination import CoordinationStore, encode_record
from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.redis_link import RedisLink
from kataven.revocation.scripts import RENEW
from tests.revocation.scratch_redis import ScratchRedis
from tests.revocation.simulation.redis_model import RedisModel

ACME = RevocationTarget("acme")
CHARLIES_KEY = RevocationTarget("globex", "charlies-key")


class StoreUnderTest:
    """A store and access to its Redis."""

    def __init__(
        self, store: CoordinationStore, messages: Callable[[], list[str]], forget_all: Callable[[], object]
    ) -> None:
        self.store = store
        self.messages = messages
        self.forget_all = forget_all

    def join(self, *workers: str, heartbeat: int = 1) -> None:
        for worker in workers:
            self.store.renew(worker, encode_record(heartbeat, 1.0, "host", 42))


@pytest.fixture(params=["redis", "model"])
def subject(request: pytest.FixtureRequest) -> Iterator[StoreUnderTest]:
    if request.param == "model":
        model = RedisModel(time.time)
        inbox: list[str] = []
        model.subscribe(inbox.append)
        yield StoreUnderTest(CoordinationStore(model.execute, "test"), lambda: inbox, model.flush)
        return
    server: ScratchRedis = request.getfixturevalue("scratch_redis")
    with server.client() as client:
        store = CoordinationStore(client.execute_command, "test")
        with RedisLink(server.url, store.channel, 5) as link:
            yield StoreUnderTest(store, lambda: link.wait(5), client.flushall)


def test_epoch_starts_at_zero_and_each_event_increments_it(subject: StoreUnderTest) -> None:
    start = subject.store.renew("a", encode_record(1, 1.0, "host", 42))
    assert start.count == 0
    published = subject.store.publish(ACME)
    assert published.epoch == replace(start, count=1)
    assert subject.store.renew("a", encode_record(2, 1.0, "host", 42)) == published.epoch


def test_event_carries_the_epochs_before_and_after_it(subject: StoreUnderTest) -> None:
    before = subject.store.renew("a", encode_record(1, 1.0, "host", 42))
    published = subject.store.publish(CHARLIES_KEY)
    assert [Event.parse(message) for message in subject.messages()] == [
        Event(before, published.epoch, CHARLIES_KEY, published.ack_id)
    ]


def test_announcement_increments_the_epoch_and_needs_no_acknowledgement(subject: StoreUnderTest) -> None:
    before = subject.store.renew("a", encode_record(1, 1.0, "host", 42))
    subject.store.announce(ACME)
    assert [Event.parse(message) for message in subject.messages()] == [
        Event(before, replace(before, count=1), ACME, None)
    ]


def test_publication_returns_the_workers_and_their_records(subject: StoreUnderTest) -> None:
    subject.join("a", "b")
    workers = subject.store.publish(ACME).workers
    assert set(workers) == {"a", "b"}
    assert workers == subject.store.records()


def test_last_acknowledgement_ends_the_wait(subject: StoreUnderTest) -> None:
    subject.join("a", "b")
    published = subject.store.publish(ACME)
    subject.store.acknowledge(published.ack_id, "a")
    assert subject.store.wait_for_last_acknowledgement(published.ack_id, 0.01) is None
    assert subject.store.unacknowledged(published) == {"b"}
    subject.store.acknowledge(published.ack_id, "a")
    assert subject.store.unacknowledged(published) == {"b"}
    subject.store.acknowledge(published.ack_id, "b")
    assert subject.store.unacknowledged(published) == frozenset()
    last_ack = subject.store.wait_for_last_acknowledgement(published.ack_id, 0.01)
    assert last_ack is not None
    assert last_ack >= published.published_at_microseconds


def test_unlisted_worker_cannot_acknowledge(subject: StoreUnderTest) -> None:
    subject.join("a")
    published = subject.store.publish(ACME)
    subject.store.acknowledge(published.ack_id, "stranger")
    assert subject.store.wait_for_last_acknowledgement(published.ack_id, 0.01) is None


def test_acknowledgements_that_redis_lost_do_not_count(subject: StoreUnderTest) -> None:
    subject.join("a", "b")
    published = subject.store.publish(ACME)
    subject.store.acknowledge(published.ack_id, "a")
    subject.forget_all()
    assert subject.store.unacknowledged(published) == {"a", "b"}


def test_flushed_redis_has_another_identity(subject: StoreUnderTest) -> None:
    before = subject.store.renew("a", encode_record(1, 1.0, "host", 42))
    subject.forget_all()
    after = subject.store.renew("a", encode_record(2, 1.0, "host", 42))
    assert after.redis != before.redis
    assert after.count == 0


def test_worker_is_swept_only_if_it_has_not_renewed_since(subject: StoreUnderTest) -> None:
    subject.join("a", "b")
    seen = subject.store.records()
    subject.join("b", heartbeat=2)
    subject.store.sweep(seen)
    assert set(subject.store.records()) == {"b"}


def test_deregistered_worker_is_not_waited_for(subject: StoreUnderTest) -> None:
    subject.join("a", "b")
    subject.store.deregister("a")
    assert set(subject.store.publish(ACME).workers) == {"b"}


def test_members_describe_each_worker(subject: StoreUnderTest) -> None:
    subject.join("a")
    [member] = subject.store.members()
    assert (member.id, member.host, member.pid, member.lease_seconds) == ("a", "host", 42, 1.0)
    assert 0 <= member.confirmed_seconds_ago < 60


class TestRealRedis:
    """Behaviour that only a real Redis has."""

    def test_script_that_redis_does_not_have_is_loaded(self, scratch_redis: ScratchRedis) -> None:
        with scratch_redis.client() as client:
            store = CoordinationStore(client.execute_command, "test")
            assert client.script_exists(RENEW.sha) == [False]
            store.renew("a", encode_record(1, 1.0, "host", 42))
            assert client.script_exists(RENEW.sha) == [True]

    def test_restarted_redis_has_another_identity(self, scratch_redis: ScratchRedis) -> None:
        def met() -> Epoch:
            with scratch_redis.client() as client:
                return CoordinationStore(client.execute_command, "test").renew("a", encode_record(1, 1.0, "host", 42))

        before = met()
        assert met() == before
        scratch_redis.restart()
        assert met().redis != before.redis

    def test_promoted_replica_has_another_identity_and_its_old_data(self, scratch_redis: ScratchRedis) -> None:
        """The same applies to the old primary when it is promoted again, although its process is the same."""
        with scratch_redis.client() as client:
            store = CoordinationStore(client.execute_command, "test")
            store.announce(ACME)
            before = store.renew("a", encode_record(1, 1.0, "host", 42))
            client.replicaof("127.0.0.1", "1")
            client.replicaof("NO", "ONE")
            after = store.renew("a", encode_record(2, 1.0, "host", 42))
            assert after.count == before.count == 1
            assert after.redis != before.redis

    def test_events_and_replies_arrive_in_the_order_in_which_redis_sent_them(self, scratch_redis: ScratchRedis) -> None:
        with scratch_redis.client() as client:
            store = CoordinationStore(client.execute_command, "test")
            with RedisLink(scratch_redis.url, store.channel, 5) as link:
                store.announce(ACME)
                epoch = CoordinationStore(link.call, "test").renew("a", encode_record(1, 1.0, "host", 42))
                assert [Event.parse(message).after for message in link.drain()] == [epoch]

    def test_acknowledgement_keys_expire(self, scratch_redis: ScratchRedis) -> None:
        with scratch_redis.client() as client:
            store = CoordinationStore(client.execute_command, "test")
            store.renew("a", encode_record(1, 1.0, "host", 42))
            store.publish(ACME)
            published = store.publish(ACME)
            store.acknowledge(published.ack_id, "a")
            lifetimes = {key: client.ttl(key) for key in client.keys("*") if not key.endswith(":state")}
            assert len(lifetimes) == 2
            assert all(0 < seconds <= 60 for seconds in lifetimes.values())
