"""Local fallback while Redis is unavailable, unresponsive or slow, and the return to Redis."""

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
UNHURRIED = RedisTimeouts(slow=PRODUCTION.slow, reply=1.0, connect=1.0)
"""For tests that start with a healthy Redis on a busy machine."""


class RecordedStats:
    """Records the events of the fallback."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.times_restored = 0
        self.local = 0

    def degraded(self, reason: str) -> None:
        self.reasons.append(reason)

    def restored(self, seconds: float) -> None:
        self.times_restored += 1

    def decided_locally(self) -> None:
        self.local += 1


@pytest.fixture
def stats() -> RecordedStats:
    return RecordedStats()


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def server(server_folder: Path) -> Iterator[EmbeddedRedis]:
    """A Redis to stop and start."""
    with EmbeddedRedis(server_folder / "redis-to-stop", persistent=False) as server:
        yield server


def fallback(url: str, stats: RecordedStats, workers: int = 1, timeouts: RedisTimeouts = PRODUCTION) -> FallbackWindows:
    return FallbackWindows(RedisWindows(RedisPool(url, timeouts)), MemoryWindows(), workers=workers, stats=stats)


@pytest.fixture
def windows(proxy: Proxy, stats: RecordedStats) -> Iterator[FallbackWindows]:
    """Started, with a healthy Redis."""
    windows = fallback(proxy.url, stats, timeouts=UNHURRIED)
    windows.start()
    yield windows
    windows.stop()


def used(windows: FallbackWindows) -> int:
    return windows.peek((one_window(1000, MINUTE),)).quota_statuses[0].used


def test_fallback_starts_at_the_first_request_that_fails(
    proxy: Proxy, stats: RecordedStats, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    windows = fallback(proxy.url, stats, workers=4, timeouts=UNHURRIED)
    windows.take((one_window(60, MINUTE),), "")
    proxy.stop()
    admitted = [windows.take((one_window(60, MINUTE),), "").admitted for _ in range(20)]
    # A quarter of the 59 requests that remained according to Redis.
    assert admitted == [True] * 14 + [False] * 6
    assert windows.degraded
    assert stats.local == 20
    assert len(stats.reasons) == 1
    assert [record.getMessage() for record in caplog.records if "falling back" in record.getMessage()] == [
        f"rate limits: Redis unavailable ({stats.reasons[0]}); falling back to local limits (1/4 share)"
    ]
    windows.stop()


def test_share_of_a_small_limit_is_at_least_one(stats: RecordedStats) -> None:
    windows = fallback("unix:///nowhere", stats, workers=100)
    assert windows.take((acme(Limits(concurrent=1)),), "a").admitted
    refusal = windows.take((acme(Limits(concurrent=1)),), "b")
    assert not refusal.admitted
    assert refusal.quota_statuses[-1].remaining == 0
    windows.stop()


def test_rejection_without_redis_names_the_account_limit(stats: RecordedStats) -> None:
    windows = fallback("unix:///nowhere", stats, workers=4)
    limit_keys = (acme(Limits(per_minute=60)),)
    while (decision := windows.take(limit_keys, "a")).admitted:
        pass
    assert decision.detail == "per-minute (60) exceeded"
    assert decision.quota_statuses[0].remaining == 0
    windows.stop()


def test_error_reply_starts_the_fallback(redis_url: str, stats: RecordedStats) -> None:
    windows = fallback(redis_url, stats, timeouts=UNHURRIED)
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1")
        assert windows.take((one_window(1, MINUTE),), "").admitted
        assert not windows.take((one_window(1, MINUTE),), "").admitted
        client.config_set("maxmemory", "0")
    assert windows.degraded
    assert "OOM" in stats.reasons[0]
    windows.stop()


def test_share_is_equal_for_all_running_workers(
    proxy: Proxy, windows: FallbackWindows, redis_url: str, stats: RecordedStats
) -> None:
    others = [fallback(redis_url, stats, timeouts=PATIENT) for _ in range(2)]
    for other in others:
        other.start()
    eventually(lambda: windows._memory.sharers == 3)
    proxy.stop_replying()
    admitted = [windows.take((one_window(60, MINUTE),), "").admitted for _ in range(30)]
    assert admitted == [True] * 20 + [False] * 10
    proxy.resume_replying()
    for other in others:
        other.stop()


def test_fallback_ends_when_redis_replies_again(proxy: Proxy, windows: FallbackWindows, stats: RecordedStats) -> None:
    windows.take((one_window(1000, MINUTE),), "")
    proxy.stop_replying()
    assert windows.take((one_window(1000, MINUTE),), "").admitted
    assert windows.degraded
    proxy.resume_replying()
    eventually(lambda: not windows.degraded)
    eventually(lambda: stats.times_restored == len(stats.reasons))
    assert used(windows) >= 2  # counted before the outage, and reported afterwards


def test_heartbeat_detects_an_outage_without_requests(proxy: Proxy, windows: FallbackWindows) -> None:
    windows.take((one_window(1000, MINUTE),), "")
    proxy.stop_replying()
    eventually(lambda: windows.degraded)
    proxy.resume_replying()


def test_slow_redis_is_not_used_until_it_is_fast(proxy: Proxy, windows: FallbackWindows, stats: RecordedStats) -> None:
    windows.take((one_window(1000, MINUTE),), "")
    proxy.delay_seconds = UNHURRIED.slow_max + 0.1  # slow even if this process is delayed
    while not windows.degraded:
        windows.take((one_window(1000, MINUTE),), "")
    eventually(lambda: stats.reasons == ["replies are slow"])
    local, requests = stats.local, proxy.requests
    for _ in range(100):
        windows.take((one_window(1000, MINUTE),), "")
    assert stats.local == local + 100
    assert proxy.requests <= requests + 2  # a heartbeat can arrive in between
    proxy.delay_seconds = 0
    eventually(lambda: not windows.degraded)


def test_single_slow_reply_does_not_start_the_fallback(proxy: Proxy, stats: RecordedStats) -> None:
    windows = fallback(proxy.url, stats, timeouts=RedisTimeouts(slow=0.005, reply=30, connect=5))
    windows.take((one_window(1000, MINUTE),), "")
    proxy.delay_seconds = 0.05
    windows.take((one_window(1000, MINUTE),), "")
    proxy.delay_seconds = 0
    windows.take((one_window(1000, MINUTE),), "")
    assert used(windows) == 3
    assert stats.local == 0
    windows.stop()


def test_worker_resumes_after_a_restart_of_redis(server: EmbeddedRedis, stats: RecordedStats) -> None:
    windows = fallback(server.url, stats, timeouts=UNHURRIED)
    windows.start()
    windows.take((one_window(1000, MINUTE),), "")
    server.stop()
    assert windows.take((one_window(1000, MINUTE),), "").admitted
    assert windows.degraded
    server.start()
    eventually(lambda: not windows.degraded)
    assert used(windows) == 1  # the restarted Redis is empty and receives the local usage
    windows.stop()


def test_slot_is_released_where_it_was_acquired(proxy: Proxy, windows: FallbackWindows) -> None:
    limit_keys = (acme(Limits(concurrent=2)),)
    windows.take(limit_keys, "in Redis")
    proxy.stop_replying()
    assert windows.take(limit_keys, "in memory").admitted
    assert not windows.take(limit_keys, "over the limit").admitted
    assert windows.peek(limit_keys).quota_statuses[-1].used == 2
    windows.release(limit_keys, "in memory")
    assert windows.peek(limit_keys).quota_statuses[-1].used == 1
    proxy.resume_replying()
    eventually(lambda: not windows.degraded)
    windows.release(limit_keys, "in Redis")
    eventually(lambda: windows.peek(limit_keys).quota_statuses[-1].used == 0)


def test_stop_releases_every_slot(redis_url: str, stats: RecordedStats) -> None:
    limit_keys = (acme(Limits(concurrent=20)),)
    windows = fallback(redis_url, stats, timeouts=PATIENT)
    windows.start()
    for number in range(10):
        windows.take(limit_keys, f"slot-{number}")
    windows.release(limit_keys, "slot-0")
    windows.stop()
    other = fallback(redis_url, stats, timeouts=PATIENT)
    assert other.peek(limit_keys).quota_statuses[-1].used == 0
    other.stop()


def test_stop_without_redis_returns(stats: RecordedStats) -> None:
    before = set(threading.enumerate())
    windows = fallback("unix:///nowhere", stats)
    windows.start()
    assert "limits-heartbeat" in [thread.name for thread in set(threading.enumerate()) - before]
    windows.take((acme(),), "a")
    windows.stop()
    assert "limits-heartbeat" not in [thread.name for thread in set(threading.enumerate()) - before]


def test_slots_of_running_requests_are_renewed(redis_url: str, stats: RecordedStats) -> None:
    limit_keys = (acme(Limits(concurrent=1)),)
    shared = RedisWindows(RedisPool(redis_url, PATIENT), slot_lease_seconds=1.5)
    windows = FallbackWindows(shared, MemoryWindows(), stats=stats)
    windows.start()
    windows.take(limit_keys, "long")
    leases: set[bytes] = set()
    with redis.Redis.from_url(redis_url) as client:

        def renewed() -> bool:
            leases.update(expiry for _, expiry in client.zrange("limits:slots:account:{acme}", 0, -1, withscores=True))
            return len(leases) >= 4  # at least one of these leases expired before the last one was granted

        eventually(renewed)
    assert not windows.take(limit_keys, "other").admitted
    windows.stop()
