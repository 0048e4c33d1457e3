"""Local fallback starts from the last replies of Redis, and reports what it admitted to Redis exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from kataven.ratelimit.fallback import REPORT_BATCH, SHRINK_DELAY_SECONDS, FallbackWindows
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import DAY, HOUR, MINUTE, KeyLimits, Limits, Quota, QuotaSet, RateLimitKey
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.windows import SLOT_LEASE_SECONDS, RedisWindows
from tests.ratelimit.limit_keys import WIDE, acme, ci_key, globex, one_window
from tests.ratelimit.unreliable_pool import UnreliablePool
from tests.support.clock import Clock


class Worker:
    """One worker with its Redis pool, without a background thread: tests call the heartbeat."""

    def __init__(self, url: str, clock: Clock, workers: int) -> None:
        self.pool = UnreliablePool(url)
        self.memory = MemoryWindows(clock=clock)
        self.windows = FallbackWindows(RedisWindows(self.pool, clock=clock), self.memory, workers=workers)

    def admitted(self, limit_key: RateLimitKey, times: int) -> int:
        return sum(self.windows.take((limit_key,), "").admitted for _ in range(times))

    def reconnect(self) -> None:
        self.pool.down = False
        self.windows.heartbeat()
        assert not self.windows.degraded


StartWorker = Callable[..., Worker]


@pytest.fixture
def start_worker(redis_url: str, clock: Clock) -> Iterator[StartWorker]:
    started = []

    def start(workers: int = 1) -> Worker:
        started.append(Worker(redis_url, clock, workers))
        return started[-1]

    yield start
    for worker in started:
        worker.pool.close()


def used(windows: RedisWindows, limit_key: RateLimitKey) -> list[int]:
    return [quota_status.used for quota_status in windows.peek((limit_key,)).quota_statuses]


def test_fallback_admits_its_share_of_the_last_known_remaining_quota(start_worker: StartWorker) -> None:
    worker = start_worker(workers=4)
    assert worker.admitted(one_window(60, MINUTE), 40) == 40
    worker.pool.down = True
    assert worker.admitted(one_window(60, MINUTE), 60) == 5


def test_share_of_the_remaining_quota_is_rounded_down(start_worker: StartWorker) -> None:
    worker = start_worker(workers=4)
    worker.admitted(one_window(4, MINUTE), 1)
    worker.pool.down = True
    assert worker.admitted(one_window(4, MINUTE), 10) == 0


def test_exhausted_account_remains_exhausted_without_redis(start_worker: StartWorker, clock: Clock) -> None:
    worker = start_worker()
    limit_key = one_window(3, MINUTE)
    worker.admitted(limit_key, 4)
    clock.advance(20)
    worker.pool.down = True
    refusal = worker.windows.take((limit_key,), "")
    assert worker.windows.degraded
    assert refusal.retry_after_seconds == 40
    clock.advance(39.9)
    assert worker.admitted(limit_key, 1) == 0
    clock.advance(0.1)
    assert worker.admitted(limit_key, 4) == 3


def test_retry_after_of_the_fallback_is_when_a_request_is_admitted(start_worker: StartWorker, clock: Clock) -> None:
    worker = start_worker(workers=2)
    limit_key = one_window(8, MINUTE)
    worker.admitted(limit_key, 4)
    worker.pool.down = True
    for _ in range(5):  # local requests and requests counted by Redis expire in turn
        while (refusal := worker.windows.take((limit_key,), "")).admitted:
            clock.advance(7)
        assert refusal.retry_after_seconds is not None
        clock.advance(refusal.retry_after_seconds - 1)
        assert worker.admitted(limit_key, 1) == 0
        clock.advance(1)
        assert worker.admitted(limit_key, 1) == 1


def test_all_windows_of_account_and_key_start_from_the_last_reply(start_worker: StartWorker) -> None:
    worker = start_worker()
    limit_keys = (acme(Limits(per_minute=9, per_hour=9, per_day=9)), ci_key(KeyLimits(per_hour=7)))
    for _ in range(5):
        worker.windows.take(limit_keys, "")
    worker.pool.down = True
    decision = worker.windows.take(limit_keys, "")
    assert [quota_status.used for quota_status in decision.quota_statuses if quota_status.quota.seconds] == [6, 6, 6, 6]
    worker.windows.take(limit_keys, "")
    assert worker.windows.take(limit_keys, "").detail == "key-per-hour (7) exceeded"
    assert worker.windows.take((globex(Limits(per_minute=9)),), "").quota_statuses[0].used == 1


def test_slots_held_in_redis_count_during_the_fallback(start_worker: StartWorker) -> None:
    worker = start_worker(workers=2)
    limit_keys = (acme(Limits(concurrent=4)),)
    assert worker.windows.take(limit_keys, "a").admitted
    worker.pool.down = True
    assert worker.windows.take(limit_keys, "b").admitted
    assert worker.windows.take(limit_keys, "c").detail == "concurrent (4) exceeded"
    worker.windows.release(limit_keys, "a")
    assert worker.windows.take(limit_keys, "d").admitted


def test_local_usage_is_counted_in_redis_after_the_fallback(
    start_worker: StartWorker, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = start_worker()
    worker.admitted(acme(WIDE), 2)
    worker.pool.down = True
    worker.admitted(acme(WIDE), 3)
    clock.advance(30)
    worker.admitted(acme(WIDE), 4)
    worker.reconnect()
    assert used(redis_windows, acme(WIDE)) == [9, 9, 9, 0]
    clock.advance(30)  # requests keep their age
    assert used(redis_windows, acme(WIDE)) == [4, 9, 9, 0]
    clock.advance(30)
    assert used(redis_windows, acme(WIDE)) == [0, 9, 9, 0]
    clock.advance(HOUR)
    assert used(redis_windows, acme(WIDE)) == [0, 0, 9, 0]


def test_expired_local_usage_is_not_reported(
    start_worker: StartWorker, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = start_worker()
    worker.pool.down = True
    worker.admitted(acme(WIDE), 3)
    clock.advance(MINUTE)
    worker.reconnect()
    assert used(redis_windows, acme(WIDE)) == [0, 3, 3, 0]


def test_report_is_counted_once_if_its_reply_was_lost(
    start_worker: StartWorker, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = start_worker(workers=1)
    worker.pool.down = True
    worker.admitted(one_window(20, MINUTE), 3)
    worker.pool.down = False

    for _ in range(2):
        report = worker.memory.pending_report(REPORT_BATCH)
        assert report is not None
        RedisWindows(worker.pool, clock=clock).report_usage(worker.windows._worker, report, worker.memory.now())
        assert worker.windows.degraded  # the worker did not receive the reply
        clock.advance(5)
        assert worker.admitted(one_window(20, MINUTE), 1) == 1  # goes into the next report
    worker.reconnect()
    assert used(redis_windows, one_window(20, MINUTE)) == [5]
    assert worker.admitted(one_window(20, MINUTE), 20) == 15


def test_unconfirmed_report_still_counts_locally(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.pool.down = True
    assert worker.admitted(one_window(4, MINUTE), 2) == 2
    assert worker.memory.pending_report(REPORT_BATCH) is not None
    assert worker.admitted(one_window(4, MINUTE), 9) == 2
    worker.reconnect()
    assert worker.admitted(one_window(4, MINUTE), 1) == 0


def test_reports_of_several_workers_add_up(start_worker: StartWorker, redis_windows: RedisWindows) -> None:
    workers = [start_worker(workers=3) for _ in range(3)]
    for worker in workers:
        worker.pool.down = True
        assert worker.admitted(one_window(30, MINUTE), 30) == 10
    for worker in workers:
        worker.reconnect()
    assert used(redis_windows, one_window(30, MINUTE)) == [30]
    assert [worker.admitted(one_window(30, MINUTE), 1) for worker in workers] == [0, 0, 0]


def test_second_fallback_starts_from_the_reported_usage(start_worker: StartWorker) -> None:
    worker = start_worker()
    for _ in range(3):
        worker.pool.down = True
        assert worker.admitted(one_window(6, MINUTE), 2) == 2
        worker.reconnect()
    worker.pool.down = True
    assert worker.admitted(one_window(6, MINUTE), 1) == 0


def test_empty_redis_receives_the_usage_of_the_outage(
    start_worker: StartWorker, redis_windows: RedisWindows, client: redis.Redis
) -> None:
    worker = start_worker()
    worker.admitted(one_window(9, MINUTE), 5)
    worker.pool.down = True
    worker.admitted(one_window(9, MINUTE), 2)
    client.flushall()
    worker.reconnect()
    assert used(redis_windows, one_window(9, MINUTE)) == [2]


def test_rejected_request_is_not_reported(start_worker: StartWorker, redis_windows: RedisWindows) -> None:
    worker = start_worker()
    worker.pool.down = True
    assert worker.admitted(one_window(2, MINUTE), 10) == 2
    worker.reconnect()
    assert used(redis_windows, one_window(2, MINUTE)) == [2]


def test_many_accounts_are_reported_in_batches(start_worker: StartWorker, redis_windows: RedisWindows) -> None:
    worker = start_worker()
    worker.pool.down = True
    limit_keys = [
        RateLimitKey(f"account:{number}", QuotaSet(Quota("window", 5, MINUTE)))
        for number in range(2 * REPORT_BATCH + 1)
    ]
    for limit_key in limit_keys:
        worker.admitted(limit_key, 2)
    worker.reconnect()
    assert {used(redis_windows, limit_key)[0] for limit_key in limit_keys} == {2}


def test_unreported_usage_is_bounded(redis_url: str, clock: Clock) -> None:
    memory = MemoryWindows(max_keys=10, clock=clock)
    windows = FallbackWindows(RedisWindows(UnreliablePool("unix:///nowhere"), clock=clock), memory)
    for number in range(100):
        windows.take((RateLimitKey(f"account:{number}", acme(WIDE).quota_set),), "")
    for _ in range(500):
        windows.take((RateLimitKey("account:99", acme(WIDE).quota_set),), "")
        clock.advance(97)
    report = memory.pending_report(1_000)
    assert report is not None
    assert len(report.entries) == 10
    assert max(len(buckets) for entry in report.entries for buckets in entry.windows.values()) <= 61


def test_reported_windows_use_bounded_memory_and_expire(
    start_worker: StartWorker, client: redis.Redis, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = start_worker()
    for number in range(300):
        worker.pool.down = bool(number % 2)
        worker.admitted(acme(WIDE), 3)
        clock.advance(53 if number % 3 else 1200)
        worker.reconnect()
    assert client.strlen("limits:account:{acme}") <= 3 * (12 + 61 * 12)
    assert DAY - 5 <= client.ttl("limits:account:{acme}") <= DAY
    assert {key.decode() for key in client.scan_iter()} - {"limits:slots:account:{acme}"} == {
        "limits:account:{acme}",
        "limits:workers",
        f"limits:told:{worker.windows._worker}:{{acme}}",
    }
    assert DAY - 5 <= client.ttl(f"limits:told:{worker.windows._worker}:{{acme}}") <= DAY


def test_running_request_of_the_fallback_gets_a_slot_in_redis(
    start_worker: StartWorker, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = start_worker(workers=2)
    limit_keys = (acme(Limits(concurrent=4)), ci_key(KeyLimits(concurrent=4)))
    worker.pool.down = True
    worker.windows.take(limit_keys, "a")
    worker.windows.take(limit_keys, "b")
    worker.reconnect()
    in_flight = [
        quota_status.used
        for quota_status in redis_windows.peek(limit_keys).quota_statuses
        if not quota_status.quota.seconds
    ]
    assert in_flight == [2, 2]
    clock.advance(SLOT_LEASE_SECONDS - 1)
    worker.windows.heartbeat()
    clock.advance(SLOT_LEASE_SECONDS - 1)
    assert redis_windows.peek(limit_keys).quota_statuses[3].used == 2  # renewed like other slots
    worker.windows.release(limit_keys, "a")
    worker.windows.release(limit_keys, "a")
    assert worker.windows.take(limit_keys, "c").quota_statuses[3].used == 2


def test_slot_released_during_the_transfer_remains_released(
    start_worker: StartWorker, redis_windows: RedisWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start_worker()
    limit_keys = (acme(Limits(concurrent=4)),)
    worker.pool.down = True
    worker.windows.take(limit_keys, "a")
    add_slots = RedisWindows.add_slots

    def release_before_adding(self: RedisWindows, taken: dict[str, tuple[RateLimitKey, ...]]) -> None:
        worker.windows.release(limit_keys, "a")
        add_slots(self, taken)

    monkeypatch.setattr(RedisWindows, "add_slots", release_before_adding)
    worker.reconnect()
    assert redis_windows.peek(limit_keys).quota_statuses[-1].used == 0
    assert worker.windows.take(limit_keys, "b").quota_statuses[-1].used == 1


def test_stopping_worker_reports_its_local_usage(start_worker: StartWorker, redis_windows: RedisWindows) -> None:
    worker = start_worker()
    worker.pool.down = True
    worker.admitted(one_window(9, MINUTE), 4)
    worker.pool.down = False
    worker.windows.stop()
    assert used(redis_windows, one_window(9, MINUTE)) == [4]


def test_disconnected_worker_still_counts_for_the_shares(start_worker: StartWorker, clock: Clock) -> None:
    one, other = start_worker(), start_worker()
    for worker in (one, other, one):
        worker.reconnect()
    other.pool.down = True
    for _ in range(50):
        clock.advance(1)
        one.windows.heartbeat()
    one.pool.down = True
    assert one.admitted(one_window(30, MINUTE), 30) == 15


def test_lower_worker_count_applies_after_a_delay(start_worker: StartWorker, clock: Clock, client: redis.Redis) -> None:
    one, other = start_worker(), start_worker()
    for worker in (one, other, one):
        worker.reconnect()
    other.windows.stop()
    one.windows.heartbeat()
    clock.advance(SHRINK_DELAY_SECONDS - 0.1)
    one.windows.heartbeat()
    assert one.memory.sharers == 2
    one.pool.down = True
    one.windows.heartbeat()
    one.pool.down = False
    one.windows.heartbeat()
    clock.advance(0.1)
    one.windows.heartbeat()
    assert one.memory.sharers == 2  # counts reported before the outage are ignored
    clock.advance(SHRINK_DELAY_SECONDS)
    one.windows.heartbeat()
    assert one.memory.sharers == 1


def test_age_of_reported_requests_is_measured_on_the_clock_of_redis(
    redis_url: str, pool: RedisPool, clock: Clock
) -> None:
    """The worker's clock has a different origin than the clock of Redis."""
    unreliable = UnreliablePool(redis_url)
    windows = FallbackWindows(RedisWindows(unreliable), MemoryWindows(clock=clock))
    unreliable.down = True
    windows.take((one_window(9, HOUR),), "")
    clock.advance(HOUR - 1800)
    unreliable.down = False
    windows.heartbeat()
    quota_status = RedisWindows(pool).peek((one_window(9, HOUR),)).quota_statuses[0]
    assert quota_status.used == 1
    assert 1790 <= quota_status.reset_seconds <= 1800
    windows.stop()
