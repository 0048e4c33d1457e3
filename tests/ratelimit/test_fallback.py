"""Redis gone, silent, slow and back again: always limited, never for long by waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.ratelimit.fallback import FallbackWindows
from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import MINUTE, Limits
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.windows import RedisWindows
from tests.ratelimit.conftest import PATIENT
from tests.ratelimit.limit_keys import acme, one_window
from tests.ratelimit.proxy import Proxy
from tests.ratelimit.waiting import eventually

PRODUCTION = RedisTimeouts()
UNHURRIED = RedisTimeouts(slow=PRODUCTION.slow, answer=1.0, connect=1.0)
"""For tests that begin with a Redis that is well, also on a machine that is busy."""


class Counting:
    """A tally that remembers."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.times_restored = 0
        self.alone = 0

    def degraded(self, reason: str) -> None:
        self.reasons.append(reason)

    def restored(self, seconds: float) -> None:
        self.times_restored += 1

    def decided_locally(self) -> None:
        self.alone += 1


@pytest.fixture
def stats() -> Counting:
    return Counting()


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def server(server_folder: Path) -> Iterator[EmbeddedRedis]:
    """A Redis to stop and start."""
    with EmbeddedRedis(server_folder / "redis-to-stop", persistent=False) as server:
        yield server


def fallback(url: str, stats: Counting, workers: int = 1, timeouts: RedisTimeouts = PRODUCTION) -> FallbackWindows:
    return FallbackWindows(RedisWindows(RedisPool(url, timeouts)), MemoryWindows(), workers=workers, stats=stats)


@pytest.fixture
def windows(proxy: Proxy, stats: Counting) -> Iterator[FallbackWindows]:
    """Started, and healthy to begin with."""
    windows = fallback(proxy.url, stats, timeouts=UNHURRIED)
    windows.start()
    yield windows
    windows.stop()


def used(windows: FallbackWindows) -> int:
    return windows.look((one_window(1000, MINUTE),)).quota_statuses[0].used


def test_broken_redis_is_left_at_the_first_request(
    proxy: Proxy, stats: Counting, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    windows = fallback(proxy.url, stats, workers=4, timeouts=UNHURRIED)
    windows.take((one_window(60, MINUTE),), "")
    proxy.end()
    admitted = [windows.take((one_window(60, MINUTE),), "").admitted for _ in range(20)]
    # A quarter of the 59 that Redis said were left.
    assert admitted == [True] * 14 + [False] * 6
    assert windows.degraded
    assert stats.alone == 20
    assert len(stats.reasons) == 1
    assert [record.getMessage() for record in caplog.records if "Redis is left" in record.getMessage()] == [
        f"limits: Redis is left ({stats.reasons[0]}); this worker limits by itself, at 1/4"
    ]
    windows.stop()


def test_share_of_a_small_budget_is_at_least_one(stats: Counting) -> None:
    windows = fallback("unix:///nowhere", stats, workers=100)
    assert windows.take((acme(Limits(concurrent=1)),), "a").admitted
    refusal = windows.take((acme(Limits(concurrent=1)),), "b")
    assert not refusal.admitted
    assert refusal.quota_statuses[-1].remaining == 0
    windows.stop()


def test_refusal_without_redis_names_the_limit_of_the_account(stats: Counting) -> None:
    windows = fallback("unix:///nowhere", stats, workers=4)
    limit_keys = (acme(Limits(per_minute=60)),)
    while (decision := windows.take(limit_keys, "a")).admitted:
        pass
    assert decision.detail == "per-minute (60) exceeded"
    assert decision.quota_statuses[0].remaining == 0
    windows.stop()


def test_redis_that_refuses_is_left(redis_url: str, stats: Counting) -> None:
    windows = fallback(redis_url, stats, timeouts=UNHURRIED)
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        assert windows.take((one_window(1, MINUTE),), "").admitted
        assert not windows.take((one_window(1, MINUTE),), "").admitted
        client.config_set("maxmemory", "0")
    assert windows.degraded
    assert "OOM" in stats.reasons[0]
    windows.stop()


def test_share_is_an_equal_part_for_each_worker_that_was_last_seen(
    proxy: Proxy, windows: FallbackWindows, redis_url: str, stats: Counting
) -> None:
    others = [fallback(redis_url, stats, timeouts=PATIENT) for _ in range(2)]
    for other in others:
        other.start()
    eventually(lambda: windows._memory.sharers == 3)
    proxy.be_silent()
    admitted = [windows.take((one_window(60, MINUTE),), "").admitted for _ in range(30)]
    assert admitted == [True] * 20 + [False] * 10
    proxy.talk()
    for other in others:
        other.stop()


def test_silent_redis_is_left_and_found_again(proxy: Proxy, windows: FallbackWindows, stats: Counting) -> None:
    windows.take((one_window(1000, MINUTE),), "")
    proxy.be_silent()
    assert windows.take((one_window(1000, MINUTE),), "").admitted
    assert windows.degraded
    proxy.talk()
    eventually(lambda: not windows.degraded)
    eventually(lambda: stats.times_restored == len(stats.reasons))
    assert used(windows) >= 2  # what Redis had counted before, and what was admitted meanwhile


def test_redis_that_is_gone_is_noticed_although_nobody_asks(proxy: Proxy, windows: FallbackWindows) -> None:
    windows.take((one_window(1000, MINUTE),), "")
    proxy.be_silent()
    eventually(lambda: windows.degraded)
    proxy.talk()


def test_slow_redis_is_left_and_not_asked_again_until_it_is_quick(
    proxy: Proxy, windows: FallbackWindows, stats: Counting
) -> None:
    windows.take((one_window(1000, MINUTE),), "")
    proxy.delay_seconds = UNHURRIED.slow_at_most + 0.1  # slow, however late this process itself is
    while not windows.degraded:
        windows.take((one_window(1000, MINUTE),), "")
    eventually(lambda: stats.reasons == ["its answers are slow"])
    alone, heard = stats.alone, proxy.heard
    for _ in range(100):
        windows.take((one_window(1000, MINUTE),), "")
    assert stats.alone == alone + 100
    assert proxy.heard <= heard + 2  # a beat may have come in between
    proxy.delay_seconds = 0
    eventually(lambda: not windows.degraded)


def test_one_slow_answer_is_waited_for(proxy: Proxy, stats: Counting) -> None:
    windows = fallback(proxy.url, stats, timeouts=RedisTimeouts(slow=0.005, answer=30, connect=5))
    windows.take((one_window(1000, MINUTE),), "")
    proxy.delay_seconds = 0.05
    windows.take((one_window(1000, MINUTE),), "")
    proxy.delay_seconds = 0
    windows.take((one_window(1000, MINUTE),), "")
    assert used(windows) == 3
    assert stats.alone == 0
    windows.stop()


def test_restart_of_redis_needs_no_restart_of_ours(server: EmbeddedRedis, stats: Counting) -> None:
    windows = fallback(server.url, stats, timeouts=UNHURRIED)
    windows.start()
    windows.take((one_window(1000, MINUTE),), "")
    server.stop()
    assert windows.take((one_window(1000, MINUTE),), "").admitted
    assert windows.degraded
    server.start()
    eventually(lambda: not windows.degraded)
    assert used(windows) == 1  # what this Redis kept nowhere is forgotten; what was admitted meanwhile it was told
    windows.stop()


def test_slot_is_given_back_where_it_was_taken(proxy: Proxy, windows: FallbackWindows) -> None:
    limit_keys = (acme(Limits(concurrent=2)),)
    windows.take(limit_keys, "in Redis")
    proxy.be_silent()
    assert windows.take(limit_keys, "in memory").admitted
    assert not windows.take(limit_keys, "one more").admitted
    assert windows.look(limit_keys).quota_statuses[-1].used == 2
    windows.give_back(limit_keys, "in memory")
    assert windows.look(limit_keys).quota_statuses[-1].used == 1
    proxy.talk()
    eventually(lambda: not windows.degraded)
    windows.give_back(limit_keys, "in Redis")
    eventually(lambda: windows.look(limit_keys).quota_statuses[-1].used == 0)


def test_stopping_gives_every_slot_back(redis_url: str, stats: Counting) -> None:
    limit_keys = (acme(Limits(concurrent=20)),)
    windows = fallback(redis_url, stats, timeouts=PATIENT)
    windows.start()
    for number in range(10):
        windows.take(limit_keys, f"slot-{number}")
    windows.give_back(limit_keys, "slot-0")
    windows.stop()
    other = fallback(redis_url, stats, timeouts=PATIENT)
    assert other.look(limit_keys).quota_statuses[-1].used == 0
    other.stop()


def test_stopping_without_redis_ends(stats: Counting) -> None:
    before = set(threading.enumerate())
    windows = fallback("unix:///nowhere", stats)
    windows.start()
    assert "limits-pulse" in [thread.name for thread in set(threading.enumerate()) - before]
    windows.take((acme(),), "a")
    windows.stop()
    assert "limits-pulse" not in [thread.name for thread in set(threading.enumerate()) - before]


def test_slots_of_requests_under_way_outlive_their_first_lease(redis_url: str, stats: Counting) -> None:
    limit_keys = (acme(Limits(concurrent=1)),)
    shared = RedisWindows(RedisPool(redis_url, PATIENT), slot_lease_seconds=1.5)
    windows = FallbackWindows(shared, MemoryWindows(), stats=stats)
    windows.start()
    windows.take(limit_keys, "long")
    leases: set[bytes] = set()
    with redis.Redis.from_url(redis_url) as client:

        def renewed() -> bool:
            leases.update(expiry for _, expiry in client.zrange("limits:slots:account:acme", 0, -1, withscores=True))
            return len(leases) >= 4  # at least one of these ran out before the last was given

        eventually(renewed)
    assert not windows.take(limit_keys, "other").admitted
    windows.stop()
