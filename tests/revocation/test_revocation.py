"""The whole package on a real Redis: start, stop and reconnection of a worker."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from kataven.revocation import EVERYTHING, Channel, Guard, Revocation, RevocationTarget
from kataven.revocation.lease import Lease, boottime
from kataven.revocation.subscriber import Subscriber
from tests.revocation.eventually import eventually
from tests.revocation.scratch_redis import ScratchRedis
from tests.revocation.simulation.fallback_model import FallbackModel, ProcessFallback
from tests.revocation.switching_relay import ClosedConnections, SwitchingRelay, SwitchPoint

ACME = RevocationTarget("acme")
LEASE_SECONDS = 0.4


class ProcessFactory:
    """Creates Revocation objects, each of which represents a process, and stops them."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self.fallback: defaultdict[str, FallbackModel] = defaultdict(FallbackModel)
        self._stack = stack

    def process(self, *, namespace: str = "kataven") -> Revocation:
        revocation = Revocation(
            self.url,
            lease_seconds=LEASE_SECONDS,
            namespace=namespace,
            fallback=ProcessFallback(self.fallback[namespace], lambda: True, lambda: None),
        )
        self._stack.callback(revocation.stop)
        return revocation

    def worker(self, *, namespace: str = "kataven") -> Revocation:
        revocation = self.process(namespace=namespace)
        revocation.start()
        assert eventually(lambda: revocation.status().lease_confirmed)
        return revocation


@pytest.fixture
def harness(scratch_redis: ScratchRedis) -> Iterator[ProcessFactory]:
    with ExitStack() as stack:
        yield ProcessFactory(scratch_redis.url, stack)


def test_every_worker_evicts_before_the_receipt_is_returned(harness: ProcessFactory) -> None:
    alice, bob = harness.worker(), harness.worker()
    evicted: list[RevocationTarget] = []
    alice.subscribe(evicted.append)
    bob.subscribe(evicted.append)
    receipt = alice.revoke(ACME)
    assert evicted.count(ACME) == 2
    assert (receipt.workers, receipt.acknowledged) == (2, 2)
    assert alice.canary.summary().count == 1
    assert alice.stats.revocations == 1


def test_process_that_is_not_a_worker_can_revoke(harness: ProcessFactory) -> None:
    worker, command = harness.worker(), harness.process()
    evicted: list[RevocationTarget] = []
    worker.subscribe(evicted.append)
    assert command.revoke(ACME).acknowledged == 1
    assert evicted == [ACME]


def test_announcement_reaches_every_worker(harness: ProcessFactory) -> None:
    alice, bob = harness.worker(), harness.worker()
    received = threading.Event()
    bob.subscribe(lambda target: received.set() if target == ACME else None)
    alice.announce(ACME)
    assert received.wait(30)


def test_stopped_worker_gives_up_its_lease_and_is_not_waited_for(harness: ProcessFactory) -> None:
    alice, bob = harness.worker(), harness.worker()
    bob.stop()
    assert not bob.status().lease_confirmed
    assert [member.id for member in alice.workers()] == [alice.status().worker]
    assert alice.revoke(ACME).workers == 1


def test_worker_can_start_again_after_it_stopped(harness: ProcessFactory) -> None:
    worker = harness.worker()
    worker.stop()
    worker.start()
    assert eventually(lambda: worker.status().lease_confirmed)


def test_starting_twice_registers_one_worker(harness: ProcessFactory) -> None:
    worker = harness.worker()
    worker.start()
    assert eventually(lambda: len(worker.workers()) == 1)


def test_stopping_a_process_that_never_started_does_nothing(harness: ProcessFactory) -> None:
    harness.process().stop()


def test_workers_of_another_namespace_are_not_affected(harness: ProcessFactory) -> None:
    ours, theirs = harness.worker(), harness.worker(namespace="another")
    evicted: list[RevocationTarget] = []
    theirs.subscribe(evicted.append)
    assert ours.revoke(ACME).workers == 1
    assert evicted == []


def test_worker_reconnects_after_redis_restarted(harness: ProcessFactory, scratch_redis: ScratchRedis) -> None:
    worker = harness.worker()
    evicted: list[RevocationTarget] = []
    worker.subscribe(evicted.append)
    scratch_redis.kill()
    assert eventually(lambda: worker.status().redis_reachable is worker.status().lease_confirmed is False)
    scratch_redis.start()
    assert eventually(lambda: worker.status().redis_reachable is worker.status().lease_confirmed is True)
    assert set(evicted) == {EVERYTHING}


def test_subscriber_survives_any_exception_of_a_cache(
    harness: ProcessFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """This includes exceptions that end other threads. Its lease expires, so the caches are not used."""
    worker, revoker = harness.worker(), harness.process()
    broken = threading.Event()
    broken.set()

    def evict(_: RevocationTarget) -> None:
        if broken.is_set():
            raise SystemExit

    worker.subscribe(evict)
    receipt = revoker.revoke(ACME)
    assert (receipt.workers, receipt.acknowledged) == (1, 0)
    assert not worker.status().lease_confirmed
    broken.clear()
    assert eventually(lambda: worker.status().lease_confirmed)
    assert "cannot keep its lease" in caplog.text


def test_subscriber_reconnects_after_an_outage_of_any_length() -> None:
    """Ten thousand attempts are hours. An early release overflowed at about the thousandth."""
    attempts = 0

    class Impatient(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            assert timeout <= LEASE_SECONDS
            return self.is_set()

    def open_link() -> Any:
        nonlocal attempts
        attempts += 1
        if attempts > 10_000:
            stopping.set()
        raise RedisError

    stopping = Impatient()
    guard = Guard(Lease(LEASE_SECONDS), Lease(LEASE_SECONDS))
    barrier: Any = None  # only used while connected
    worker = Subscriber(guard, open_link, "kataven", barrier)
    worker.run(stopping)
    assert attempts == 10_001


def test_pooled_connection_to_a_demoted_primary_is_closed_and_the_event_published_again(
    scratch_redis: ScratchRedis, other_redis: ScratchRedis, short_folder: Path
) -> None:
    """A planned failover closes no client connection: the old primary keeps responding with READONLY."""
    with (
        SwitchingRelay(short_folder, (scratch_redis.socket, other_redis.socket)) as relay,
        ExitStack() as stack,
    ):
        harness = ProcessFactory(relay.url, stack)
        alice, bob = harness.worker(), harness.worker()
        assert alice.revoke(ACME).acknowledged == 2
        before = alice.guard.home_redis
        with scratch_redis.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
        relay.switch_at(SwitchPoint.IDLE, ClosedConnections.LINKS)
        for worker in (alice, bob):
            assert eventually(lambda worker=worker: worker.guard.home_redis not in (None, before))  # type: ignore[misc]
        for _ in range(3):
            receipt = alice.revoke(ACME)
            assert (receipt.channel, receipt.acknowledged) == (Channel.REDIS, 2)


def test_status_before_start_has_no_lease(harness: ProcessFactory) -> None:
    status = harness.process().status()
    assert (status.redis_reachable, status.lease_confirmed, status.epoch) == (False, False, None)


def test_clock_continues_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda clock: float(clock))
    assert boottime() == getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
