"""A worker without Redis goes on from what Redis said last, and tells it afterwards what it admitted: once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from kataven.ratelimit.fallback import FEWER_SECONDS, TOLD_AT_ONCE, FallbackWindows
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.policy import DAY, HOUR, MINUTE, KeyLimits, Limits, Quota, QuotaSet, RateLimitKey
from kataven.ratelimit.windows import SLOT_LEASE_SECONDS, RedisWindows
from tests.ratelimit.limit_keys import WIDE, acme, ci_key, globex, one_window
from tests.ratelimit.line import Line
from tests.support.clock import Clock


class Worker:
    """One worker, its way to Redis, and no pulse: it beats when a test says so."""

    def __init__(self, url: str, clock: Clock, workers: int) -> None:
        self.line = Line(url)
        self.memory = MemoryWindows(clock=clock)
        self.windows = FallbackWindows(RedisWindows(self.line, clock=clock), self.memory, workers=workers)

    def admitted(self, limit_key: RateLimitKey, times: int) -> int:
        return sum(self.windows.take((limit_key,), "").admitted for _ in range(times))

    def back(self) -> None:
        self.line.down = False
        self.windows.heartbeat()
        assert not self.windows.degraded


Hire = Callable[..., Worker]


@pytest.fixture
def hire(redis_url: str, clock: Clock) -> Iterator[Hire]:
    hired = []

    def begin(workers: int = 1) -> Worker:
        hired.append(Worker(redis_url, clock, workers))
        return hired[-1]

    yield begin
    for worker in hired:
        worker.line.close()


def used(windows: RedisWindows, limit_key: RateLimitKey) -> list[int]:
    return [quota_status.used for quota_status in windows.look((limit_key,)).quota_statuses]


def test_worker_alone_has_its_share_of_what_redis_said_was_left(hire: Hire) -> None:
    worker = hire(workers=4)
    assert worker.admitted(one_window(60, MINUTE), 40) == 40
    worker.line.down = True
    assert worker.admitted(one_window(60, MINUTE), 60) == 5


def test_share_of_what_is_left_is_rounded_down(hire: Hire) -> None:
    worker = hire(workers=4)
    worker.admitted(one_window(4, MINUTE), 1)
    worker.line.down = True
    assert worker.admitted(one_window(4, MINUTE), 10) == 0


def test_account_at_its_limit_stays_there_without_redis(hire: Hire, clock: Clock) -> None:
    worker = hire()
    limit_key = one_window(3, MINUTE)
    worker.admitted(limit_key, 4)
    clock.advance(20)
    worker.line.down = True
    refusal = worker.windows.take((limit_key,), "")
    assert worker.windows.degraded
    assert refusal.retry_after_seconds == 40
    clock.advance(39.9)
    assert worker.admitted(limit_key, 1) == 0
    clock.advance(0.1)
    assert worker.admitted(limit_key, 4) == 3


def test_retry_after_alone_is_when_a_request_is_admitted(hire: Hire, clock: Clock) -> None:
    worker = hire(workers=2)
    limit_key = one_window(8, MINUTE)
    worker.admitted(limit_key, 4)
    worker.line.down = True
    for _ in range(5):  # of its own, and of Redis' count, now these leave first and now those
        while (refusal := worker.windows.take((limit_key,), "")).admitted:
            clock.advance(7)
        assert refusal.retry_after_seconds is not None
        clock.advance(refusal.retry_after_seconds - 1)
        assert worker.admitted(limit_key, 1) == 0
        clock.advance(1)
        assert worker.admitted(limit_key, 1) == 1


def test_every_window_and_the_keys_own_begin_from_what_redis_said(hire: Hire) -> None:
    worker = hire()
    limit_keys = (acme(Limits(per_minute=9, per_hour=9, per_day=9)), ci_key(KeyLimits(per_hour=7)))
    for _ in range(5):
        worker.windows.take(limit_keys, "")
    worker.line.down = True
    decision = worker.windows.take(limit_keys, "")
    assert [quota_status.used for quota_status in decision.quota_statuses if quota_status.quota.seconds] == [6, 6, 6, 6]
    worker.windows.take(limit_keys, "")
    assert worker.windows.take(limit_keys, "").detail == "key-per-hour (7) exceeded"
    assert worker.windows.take((globex(Limits(per_minute=9)),), "").quota_statuses[0].used == 1


def test_slots_that_a_worker_holds_in_redis_count_when_it_is_alone(hire: Hire) -> None:
    worker = hire(workers=2)
    limit_keys = (acme(Limits(concurrent=4)),)
    assert worker.windows.take(limit_keys, "a").admitted
    worker.line.down = True
    assert worker.windows.take(limit_keys, "b").admitted
    assert worker.windows.take(limit_keys, "c").detail == "concurrent (4) exceeded"
    worker.windows.give_back(limit_keys, "a")
    assert worker.windows.take(limit_keys, "d").admitted


def test_what_a_worker_admitted_alone_is_counted_in_redis_when_it_is_back(
    hire: Hire, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = hire()
    worker.admitted(acme(WIDE), 2)
    worker.line.down = True
    worker.admitted(acme(WIDE), 3)
    clock.advance(30)
    worker.admitted(acme(WIDE), 4)
    worker.back()
    assert used(redis_windows, acme(WIDE)) == [9, 9, 9, 0]
    clock.advance(30)  # at its age, not as of now
    assert used(redis_windows, acme(WIDE)) == [4, 9, 9, 0]
    clock.advance(30)
    assert used(redis_windows, acme(WIDE)) == [0, 9, 9, 0]
    clock.advance(HOUR)
    assert used(redis_windows, acme(WIDE)) == [0, 0, 9, 0]


def test_what_is_too_old_for_a_window_is_not_told(hire: Hire, redis_windows: RedisWindows, clock: Clock) -> None:
    worker = hire()
    worker.line.down = True
    worker.admitted(acme(WIDE), 3)
    clock.advance(MINUTE)
    worker.back()
    assert used(redis_windows, acme(WIDE)) == [0, 3, 3, 0]


def test_report_is_counted_once_though_its_answer_was_lost(
    hire: Hire, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = hire(workers=1)
    worker.line.down = True
    worker.admitted(one_window(20, MINUTE), 3)
    worker.line.down = False

    for _ in range(2):
        report = worker.memory.report(TOLD_AT_ONCE)
        assert report is not None
        RedisWindows(worker.line, clock=clock).report_usage(worker.windows._worker, report, worker.memory.now())
        assert worker.windows.degraded  # the worker has not heard the answer
        clock.advance(5)
        assert worker.admitted(one_window(20, MINUTE), 1) == 1  # told with the next report
    worker.back()
    assert used(redis_windows, one_window(20, MINUTE)) == [5]
    assert worker.admitted(one_window(20, MINUTE), 20) == 15


def test_unanswered_report_still_counts_for_the_worker_itself(hire: Hire) -> None:
    worker = hire()
    worker.line.down = True
    assert worker.admitted(one_window(4, MINUTE), 2) == 2
    assert worker.memory.report(TOLD_AT_ONCE) is not None
    assert worker.admitted(one_window(4, MINUTE), 9) == 2
    worker.back()
    assert worker.admitted(one_window(4, MINUTE), 1) == 0


def test_several_workers_that_return_add_up(hire: Hire, redis_windows: RedisWindows) -> None:
    workers = [hire(workers=3) for _ in range(3)]
    for worker in workers:
        worker.line.down = True
        assert worker.admitted(one_window(30, MINUTE), 30) == 10
    for worker in workers:
        worker.back()
    assert used(redis_windows, one_window(30, MINUTE)) == [30]
    assert [worker.admitted(one_window(30, MINUTE), 1) for worker in workers] == [0, 0, 0]


def test_worker_that_was_away_for_a_second_time_goes_on_from_what_it_told(hire: Hire) -> None:
    worker = hire()
    for _ in range(3):
        worker.line.down = True
        assert worker.admitted(one_window(6, MINUTE), 2) == 2
        worker.back()
    worker.line.down = True
    assert worker.admitted(one_window(6, MINUTE), 1) == 0


def test_redis_that_comes_back_empty_knows_what_was_admitted_meanwhile(
    hire: Hire, redis_windows: RedisWindows, client: redis.Redis
) -> None:
    worker = hire()
    worker.admitted(one_window(9, MINUTE), 5)
    worker.line.down = True
    worker.admitted(one_window(9, MINUTE), 2)
    client.flushall()
    worker.back()
    assert used(redis_windows, one_window(9, MINUTE)) == [2]


def test_refused_request_is_not_told(hire: Hire, redis_windows: RedisWindows) -> None:
    worker = hire()
    worker.line.down = True
    assert worker.admitted(one_window(2, MINUTE), 10) == 2
    worker.back()
    assert used(redis_windows, one_window(2, MINUTE)) == [2]


def test_many_accounts_are_told_in_several_reports(hire: Hire, redis_windows: RedisWindows) -> None:
    worker = hire()
    worker.line.down = True
    limit_keys = [
        RateLimitKey(f"account:{number}", QuotaSet(Quota("window", 5, MINUTE)))
        for number in range(2 * TOLD_AT_ONCE + 1)
    ]
    for limit_key in limit_keys:
        worker.admitted(limit_key, 2)
    worker.back()
    assert {used(redis_windows, limit_key)[0] for limit_key in limit_keys} == {2}


def test_what_is_kept_to_be_told_is_bounded(redis_url: str, clock: Clock) -> None:
    memory = MemoryWindows(max_keys=10, clock=clock)
    windows = FallbackWindows(RedisWindows(Line("unix:///nowhere"), clock=clock), memory)
    for number in range(100):
        windows.take((RateLimitKey(f"account:{number}", acme(WIDE).plan),), "")
    for _ in range(500):
        windows.take((RateLimitKey("account:99", acme(WIDE).plan),), "")
        clock.advance(97)
    report = memory.report(1_000)
    assert report is not None
    assert len(report.entries) == 10
    assert max(len(buckets) for entry in report.entries for buckets in entry.windows.values()) <= 61


def test_told_windows_stay_in_bounded_memory_and_expire(
    hire: Hire, client: redis.Redis, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = hire()
    for number in range(300):
        worker.line.down = bool(number % 2)
        worker.admitted(acme(WIDE), 3)
        clock.advance(53 if number % 3 else 1200)
        worker.back()
    assert client.strlen("limits:account:acme") <= 3 * (12 + 61 * 12)
    assert DAY - 5 <= client.ttl("limits:account:acme") <= DAY
    assert {key.decode() for key in client.scan_iter()} - {"limits:slots:account:acme"} == {
        "limits:account:acme",
        "limits:workers",
        f"limits:told:{worker.windows._worker}",
    }
    assert DAY - 5 <= client.ttl(f"limits:told:{worker.windows._worker}") <= DAY


def test_request_under_way_since_it_was_admitted_alone_takes_a_slot_in_redis(
    hire: Hire, redis_windows: RedisWindows, clock: Clock
) -> None:
    worker = hire(workers=2)
    limit_keys = (acme(Limits(concurrent=4)), ci_key(KeyLimits(concurrent=4)))
    worker.line.down = True
    worker.windows.take(limit_keys, "a")
    worker.windows.take(limit_keys, "b")
    worker.back()
    in_flight = [
        quota_status.used
        for quota_status in redis_windows.look(limit_keys).quota_statuses
        if not quota_status.quota.seconds
    ]
    assert in_flight == [2, 2]
    clock.advance(SLOT_LEASE_SECONDS - 1)
    worker.windows.heartbeat()
    clock.advance(SLOT_LEASE_SECONDS - 1)
    assert redis_windows.look(limit_keys).quota_statuses[3].used == 2  # renewed like any other
    worker.windows.give_back(limit_keys, "a")
    worker.windows.give_back(limit_keys, "a")
    assert worker.windows.take(limit_keys, "c").quota_statuses[3].used == 2


def test_slot_given_back_while_it_is_handed_over_stays_given_back(
    hire: Hire, redis_windows: RedisWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = hire()
    limit_keys = (acme(Limits(concurrent=4)),)
    worker.line.down = True
    worker.windows.take(limit_keys, "a")
    hold = RedisWindows.hold

    def held_too_late(self: RedisWindows, name: str, taken: dict[str, tuple[RateLimitKey, ...]]) -> None:
        worker.windows.give_back(limit_keys, "a")
        hold(self, name, taken)

    monkeypatch.setattr(RedisWindows, "hold", held_too_late)
    worker.back()
    assert redis_windows.look(limit_keys).quota_statuses[-1].used == 0
    assert worker.windows.take(limit_keys, "b").quota_statuses[-1].used == 1


def test_worker_that_stops_tells_what_it_admitted_alone(hire: Hire, redis_windows: RedisWindows) -> None:
    worker = hire()
    worker.line.down = True
    worker.admitted(one_window(9, MINUTE), 4)
    worker.line.down = False
    worker.windows.stop()
    assert used(redis_windows, one_window(9, MINUTE)) == [4]


def test_worker_that_is_cut_off_still_counts_among_those_that_share(hire: Hire, clock: Clock) -> None:
    one, other = hire(), hire()
    for worker in (one, other, one):
        worker.back()
    other.line.down = True
    for _ in range(50):
        clock.advance(1)
        one.windows.heartbeat()
    one.line.down = True
    assert one.admitted(one_window(30, MINUTE), 30) == 15


def test_that_there_are_fewer_workers_is_believed_after_a_while(hire: Hire, clock: Clock, client: redis.Redis) -> None:
    one, other = hire(), hire()
    for worker in (one, other, one):
        worker.back()
    other.windows.stop()
    one.windows.heartbeat()
    clock.advance(FEWER_SECONDS - 0.1)
    one.windows.heartbeat()
    assert one.memory.sharers == 2
    one.line.down = True
    one.windows.heartbeat()
    one.line.down = False
    one.windows.heartbeat()
    clock.advance(0.1)
    one.windows.heartbeat()
    assert one.memory.sharers == 2  # what Redis said before it was gone does not count
    clock.advance(FEWER_SECONDS)
    one.windows.heartbeat()
    assert one.memory.sharers == 1


def test_clock_of_redis_decides_how_old_a_told_request_is(redis_url: str, wire: Line, clock: Clock) -> None:
    """The worker's clock has another zero, as every host's has."""
    line = Line(redis_url)
    windows = FallbackWindows(RedisWindows(line), MemoryWindows(clock=clock))
    line.down = True
    windows.take((one_window(9, HOUR),), "")
    clock.advance(HOUR - 1800)
    line.down = False
    windows.heartbeat()
    quota_status = RedisWindows(wire).look((one_window(9, HOUR),)).quota_statuses[0]
    assert quota_status.used == 1
    assert 1790 <= quota_status.reset_seconds <= 1800
    windows.stop()
