"""The fallback poller as a real thread: start, polling, error recovery and stop."""

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
from tests.revocation.simulation.fallback_model import FallbackModel, ProcessFallback


class PollerUnderTest:
    """A poller, and a simulated channel that can become unreachable."""

    def __init__(self) -> None:
        self.reachable = True
        self.now = 0.0
        """By the clock of the channel's storage."""
        self.shared = FallbackModel()
        self.fallback = ProcessFallback(self.shared, lambda: self.reachable, lambda: None, lambda: self.now)
        self.guard = Guard(Lease(0.02), Lease(30))
        self.poller = FallbackPoller(self.guard, self.fallback)
        self.evicted: list[RevocationTarget] = []

    @property
    def lease_valid(self) -> bool:
        return self.guard.reader_lease.is_valid()


@pytest.fixture
def under_test() -> Iterator[PollerUnderTest]:
    under_test = PollerUnderTest()
    under_test.guard.subscribe(under_test.evicted.append)
    yield under_test
    under_test.poller.stop()


def test_poller_clears_the_caches_before_it_writes_that_it_read_a_notice(under_test: PollerUnderTest) -> None:
    under_test.poller.start()
    under_test.poller.start()
    assert eventually(lambda: under_test.lease_valid)
    under_test.evicted.clear()
    posted = under_test.fallback.post_notice()
    assert eventually(lambda: not under_test.fallback.readers_behind(posted.notice))
    assert under_test.evicted == [EVERYTHING]
    assert [reader.pid for reader in posted.readers] == [os.getpid()]


def test_stopped_poller_is_deregistered_and_can_start_again(under_test: PollerUnderTest) -> None:
    under_test.poller.start()
    assert eventually(lambda: under_test.lease_valid)
    under_test.poller.stop()
    assert not under_test.lease_valid
    assert under_test.fallback.heartbeat_counts() == {}
    under_test.poller.start()
    assert eventually(lambda: under_test.lease_valid)


def test_poller_recovers_and_logs_an_outage_once(under_test: PollerUnderTest, caplog: pytest.LogCaptureFixture) -> None:
    under_test.reachable = False
    under_test.poller.start()
    assert eventually(lambda: "channel is unreachable" in caplog.text)
    assert not under_test.lease_valid
    under_test.reachable = True
    assert eventually(lambda: under_test.lease_valid)
    assert caplog.text.count("channel is unreachable") == 1


def test_notice_is_not_acknowledged_while_a_cache_fails_to_evict(
    under_test: PollerUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    under_test.poller.start()
    assert eventually(lambda: under_test.lease_valid)
    broken = True

    def evict(_: RevocationTarget) -> None:
        if broken:
            raise SystemExit

    under_test.guard.subscribe(evict)
    posted = under_test.fallback.post_notice().notice
    assert eventually(lambda: "cannot poll the fallback channel" in caplog.text)
    assert under_test.fallback.readers_behind(posted)
    broken = False
    assert eventually(lambda: not under_test.fallback.readers_behind(posted))


def test_new_home_redis_is_written_immediately(under_test: PollerUnderTest) -> None:
    under_test.guard.on_home_change = under_test.poller.poll_soon
    under_test.poller.start()
    assert eventually(lambda: under_test.lease_valid)
    assert under_test.fallback.readers_with_other_home("redis-b") == frozenset()
    for redis in ("redis-a", "redis-b"):
        under_test.guard.confirm_lease(under_test.guard.lease.clock(), Epoch(redis, 1))
        assert eventually(lambda redis=redis: under_test.shared.redis[under_test.poller.id] == redis)  # type: ignore[misc]
    assert [reader.pid for reader in under_test.fallback.readers_with_other_home("redis-a")] == [os.getpid()]


def test_overdue_intent_is_applied_at_each_poll_until_it_is_removed(
    under_test: PollerUnderTest,
) -> None:
    key = RevocationTarget("acme", "a key")
    under_test.poller.poll()
    under_test.evicted.clear()
    intent = under_test.fallback.add_intent(key)
    under_test.poller.poll()
    assert under_test.evicted == []  # not overdue yet
    under_test.now += 1
    under_test.poller.poll()
    under_test.poller.poll()
    assert under_test.evicted == [key, key]
    under_test.poller.remove_intent_later(intent)
    under_test.poller.poll()
    assert under_test.evicted == [key, key]


def test_failed_removal_of_an_intent_is_repeated_at_the_next_poll(under_test: PollerUnderTest) -> None:
    intent = under_test.fallback.add_intent(RevocationTarget("acme"))
    under_test.poller.remove_intent_later(intent)
    under_test.reachable = False
    with pytest.raises(FallbackUnreachable):
        under_test.poller.poll()
    under_test.reachable = True
    under_test.poller.poll()
    assert under_test.shared.intents == {}


def test_process_has_exited_only_if_that_can_be_determined() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert has_exited(PollerId("x", pid_namespace(), ended.pid))
    assert not has_exited(PollerId("x", "another host", ended.pid))
    assert not has_exited(PollerId("x", pid_namespace(), os.getpid()))
    assert not has_exited(PollerId("x", pid_namespace(), 1))
