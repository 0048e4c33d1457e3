"""The coordination store: real Redis with the Lua scripts, and the simulated Redis, must return the same results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from kataven.revocation import RevocationTarget, coordination
from kataven.revocation.coordination import CoordinationStore, encode_record, lease_seconds_of, process_of
from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.fallback.channel import PollerId
from kataven.revocation.fallback.poller import has_exited
from kataven.revocation.redis_link import RedisLink
from kataven.revocation.scripts import RENEW
from kataven.revocation.target import RevokedKey
from tests.revocation.scratch_redis import ScratchRedis
from tests.revocation.simulation.redis_model import RedisModel

ACME = RevocationTarget("acme")
PROCESS = PollerId("a", "boot pid:[1]", 42)
CHARLIES_KEY = RevocationTarget("globex", "charlies-key")


class StoreUnderTest:
    """A store and access to its Redis."""

    def __init__(
        self, store: CoordinationStore, messages: Callable[[], list[str]], flush: Callable[[], object]
    ) -> None:
        self.store = store
        self.messages = messages
        self.flush = flush

    def join(self, *workers: str, heartbeat: int = 1) -> None:
        for worker in workers:
            self.store.renew(worker, encode_record(heartbeat, 1.0, "host", PROCESS))


@pytest.fixture(params=["redis", "model"])
def under_test(request: pytest.FixtureRequest) -> Iterator[StoreUnderTest]:
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


def test_epoch_starts_at_zero_and_each_event_increments_it(under_test: StoreUnderTest) -> None:
    start = under_test.store.renew("a", encode_record(1, 1.0, "host", PROCESS))
    assert start.count == 0
    published = under_test.store.publish(ACME)
    assert published.epoch == replace(start, count=1)
    assert under_test.store.renew("a", encode_record(2, 1.0, "host", PROCESS)) == published.epoch


def test_event_carries_the_epochs_before_and_after_it(under_test: StoreUnderTest) -> None:
    before = under_test.store.renew("a", encode_record(1, 1.0, "host", PROCESS))
    published = under_test.store.publish(CHARLIES_KEY)
    assert [Event.parse(message) for message in under_test.messages()] == [
        Event(before, published.epoch, CHARLIES_KEY, published.ack_id)
    ]


def test_announcement_increments_the_epoch_and_needs_no_acknowledgement(under_test: StoreUnderTest) -> None:
    before = under_test.store.renew("a", encode_record(1, 1.0, "host", PROCESS))
    under_test.store.announce(ACME)
    assert [Event.parse(message) for message in under_test.messages()] == [
        Event(before, replace(before, count=1), ACME, None)
    ]


def test_publication_returns_the_workers_and_their_records(under_test: StoreUnderTest) -> None:
    under_test.join("a", "b")
    workers = under_test.store.publish(ACME).workers
    assert set(workers) == {"a", "b"}
    assert workers == under_test.store.records()


def test_last_acknowledgement_ends_the_wait(under_test: StoreUnderTest) -> None:
    under_test.join("a", "b")
    published = under_test.store.publish(ACME)
    under_test.store.acknowledge(published.ack_id, "a")
    assert under_test.store.wait_for_last_acknowledgement(published.ack_id, 0.01) is None
    assert under_test.store.unacknowledged(published) == {"b"}
    under_test.store.acknowledge(published.ack_id, "a")
    assert under_test.store.unacknowledged(published) == {"b"}
    under_test.store.acknowledge(published.ack_id, "b")
    assert under_test.store.unacknowledged(published) == frozenset()
    last_ack = under_test.store.wait_for_last_acknowledgement(published.ack_id, 0.01)
    assert last_ack is not None
    assert last_ack >= published.published_at_microseconds


def test_acknowledgements_have_their_times(under_test: StoreUnderTest) -> None:
    under_test.join("a", "b")
    published = under_test.store.publish(ACME)
    assert under_test.store.acknowledgements(published.ack_id) == {}
    under_test.store.acknowledge(published.ack_id, "b", 300)
    under_test.store.acknowledge(published.ack_id, "a", 200)
    under_test.store.acknowledge(published.ack_id, "b", 900)  # counts once
    under_test.store.acknowledge(published.ack_id, "unlisted", 100)
    found = under_test.store.acknowledgements(published.ack_id)
    assert {worker: before for worker, (_, before) in found.items()} == {"a": 200, "b": 300}
    assert min(at for at, _ in found.values()) >= published.published_at_microseconds


@pytest.mark.parametrize("acknowledges_first", [True, False])
def test_dismissed_workers_are_not_waited_for(under_test: StoreUnderTest, acknowledges_first: bool) -> None:
    under_test.join("a", "b", "c")
    published = under_test.store.publish(ACME)
    if acknowledges_first:
        under_test.store.acknowledge(published.ack_id, "a")
    under_test.store.dismiss(published.ack_id, ["b", "c"])
    if not acknowledges_first:
        assert under_test.store.wait_for_last_acknowledgement(published.ack_id, 0.01) is None
        under_test.store.acknowledge(published.ack_id, "a")
    assert under_test.store.wait_for_last_acknowledgement(published.ack_id, 5) is not None
    assert set(under_test.store.acknowledgements(published.ack_id)) == {"a"}


def test_record_names_the_process_that_wrote_it(under_test: StoreUnderTest) -> None:
    under_test.join("a")
    assert process_of("a", under_test.store.records()["a"]) == PROCESS
    under_test.store.renew("b", '[7, 1.0, "host", 42]')
    earlier = process_of("b", under_test.store.records()["b"])
    assert earlier == PollerId("b", "", 42)
    assert not has_exited(earlier), "an earlier release did not write where the pid is unique"


def test_unlisted_worker_cannot_acknowledge(under_test: StoreUnderTest) -> None:
    under_test.join("a")
    published = under_test.store.publish(ACME)
    under_test.store.acknowledge(published.ack_id, "unlisted")
    assert under_test.store.wait_for_last_acknowledgement(published.ack_id, 0.01) is None


def test_acknowledgements_that_redis_lost_do_not_count(under_test: StoreUnderTest) -> None:
    under_test.join("a", "b")
    published = under_test.store.publish(ACME)
    under_test.store.acknowledge(published.ack_id, "a")
    under_test.flush()
    assert under_test.store.unacknowledged(published) == {"a", "b"}


def test_flushed_redis_has_another_identity(under_test: StoreUnderTest) -> None:
    before = under_test.store.renew("a", encode_record(1, 1.0, "host", PROCESS))
    under_test.flush()
    after = under_test.store.renew("a", encode_record(2, 1.0, "host", PROCESS))
    assert after.redis != before.redis
    assert after.count == 0


def test_worker_is_swept_only_if_it_has_not_renewed_since(under_test: StoreUnderTest) -> None:
    under_test.join("a", "b")
    seen = under_test.store.records()
    under_test.join("b", heartbeat=2)
    under_test.store.sweep(seen)
    assert set(under_test.store.records()) == {"b"}


def test_deregistered_worker_is_not_waited_for(under_test: StoreUnderTest) -> None:
    under_test.join("a", "b")
    under_test.store.deregister("a")
    assert set(under_test.store.publish(ACME).workers) == {"b"}


def test_members_describe_each_worker(under_test: StoreUnderTest) -> None:
    under_test.join("a")
    [member] = under_test.store.members()
    assert (member.id, member.host, member.pid, member.lease_seconds) == ("a", "host", 42, 1.0)
    assert 0 <= member.confirmed_seconds_ago < 60


class TestRealRedis:
    """Behaviour that only a real Redis has."""

    def test_script_that_redis_does_not_have_is_loaded(self, scratch_redis: ScratchRedis) -> None:
        with scratch_redis.client() as client:
            store = CoordinationStore(client.execute_command, "test")
            assert client.script_exists(RENEW.sha) == [False]
            store.renew("a", encode_record(1, 1.0, "host", PROCESS))
            assert client.script_exists(RENEW.sha) == [True]

    def test_restarted_redis_has_another_identity(self, scratch_redis: ScratchRedis) -> None:
        def met() -> Epoch:
            with scratch_redis.client() as client:
                return CoordinationStore(client.execute_command, "test").renew(
                    "a", encode_record(1, 1.0, "host", PROCESS)
                )

        before = met()
        assert met() == before
        scratch_redis.restart()
        assert met().redis != before.redis

    def test_promoted_replica_has_another_identity_and_its_old_data(self, scratch_redis: ScratchRedis) -> None:
        """The same applies to the old primary when it is promoted again, although its process is the same."""
        with scratch_redis.client() as client:
            store = CoordinationStore(client.execute_command, "test")
            store.announce(ACME)
            before = store.renew("a", encode_record(1, 1.0, "host", PROCESS))
            client.replicaof("127.0.0.1", "1")
            client.replicaof("NO", "ONE")
            after = store.renew("a", encode_record(2, 1.0, "host", PROCESS))
            assert after.count == before.count == 1
            assert after.redis != before.redis

    def test_events_and_replies_arrive_in_the_order_in_which_redis_sent_them(self, scratch_redis: ScratchRedis) -> None:
        with scratch_redis.client() as client:
            store = CoordinationStore(client.execute_command, "test")
            with RedisLink(scratch_redis.url, store.channel, 5) as link:
                store.announce(ACME)
                epoch = CoordinationStore(link.call, "test").renew("a", encode_record(1, 1.0, "host", PROCESS))
                assert [Event.parse(message).after for message in link.drain()] == [epoch]

    def test_acknowledgement_keys_expire(self, scratch_redis: ScratchRedis) -> None:
        with scratch_redis.client() as client:
            store = CoordinationStore(client.execute_command, "test")
            store.renew("a", encode_record(1, 1.0, "host", PROCESS))
            store.publish(ACME)
            published = store.publish(ACME)
            store.acknowledge(published.ack_id, "a")
            lifetimes = {key: client.ttl(key) for key in client.keys("*") if not key.endswith(":state")}
            assert len(lifetimes) == 3
            assert all(0 < seconds <= 60 for seconds in lifetimes.values())


def test_revoked_key_is_recorded_with_its_event(under_test: StoreUnderTest) -> None:
    key, other = RevokedKey("globex", "charlies-key"), RevokedKey("globex", "dora's key")
    under_test.store.publish(CHARLIES_KEY)
    assert not under_test.store.is_recently_revoked(key), "a limit of the key was changed"
    under_test.store.publish(CHARLIES_KEY, key)
    assert under_test.store.is_recently_revoked(key)
    assert not under_test.store.is_recently_revoked(other)
    assert under_test.store.recently_revoked() == [key]
    under_test.flush()
    assert not under_test.store.is_recently_revoked(key)
    assert under_test.store.recently_revoked() == []


@pytest.mark.parametrize(
    ("published", "recorded"), [((2, 3), 3), ((3, 2), 3), ((3, None), None), ((None, 3), None), ((9, 10), 10)]
)
def test_highest_revoked_generation_is_recorded(
    under_test: StoreUnderTest, published: tuple[int | None, ...], recorded: int | None
) -> None:
    for generation in published:
        under_test.store.publish(ACME, RevokedKey("acme", "site", generation))
    assert under_test.store.recently_revoked() == [RevokedKey("acme", "site", recorded)]
    for generation in (1, 2, 3, 9, 10):
        covered = under_test.store.is_recently_revoked(RevokedKey("acme", "site", generation))
        assert covered == (recorded is None or generation < recorded)


def test_records_of_revoked_keys_expire(scratch_redis: ScratchRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    with scratch_redis.client() as client:
        store = CoordinationStore(client.execute_command, "test")
        store.publish(ACME, RevokedKey("acme", "first"))
        monkeypatch.setattr(coordination, "KEEP_RECENT_MILLISECONDS", -1)
        store.publish(ACME, RevokedKey("acme", "second"))
        assert store.recently_revoked() == []
        assert client.zcard("{test:revocation}:recent-times") == 0


def test_latest_revoked_keys_are_kept_and_read_in_pages(
    scratch_redis: ScratchRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordination, "MAX_RECENT", 5)
    monkeypatch.setattr(coordination, "_PAGE", 2)
    with scratch_redis.client() as client:
        store = CoordinationStore(client.execute_command, "test")
        keys = [RevokedKey("acme", f"key-{number}") for number in range(8)]
        for key in keys:
            store.publish(ACME, key)
        assert set(store.recently_revoked()) == set(keys[-5:])
        assert not store.is_recently_revoked(keys[0])
        assert client.hlen("{test:revocation}:recent") == 5


def test_record_of_a_later_release_with_more_values_is_read() -> None:
    text = '17 ["3 a-namespace", 1.5, "host", 5, "more"]'
    assert lease_seconds_of(text) == 1.5
    process = process_of("worker", text)
    assert (process.pid_namespace, process.pid) == ("a-namespace", 5)
    assert process_of("worker", '17 [3, 1.5, "host", 5]').pid_namespace == ""
