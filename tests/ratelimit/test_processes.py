"""Several workers, one budget: exact however many ask, and nothing stays taken by those that died."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from kataven.ratelimit.limiter import Limiter
from kataven.ratelimit.policy import Limits
from tests.ratelimit.waiting import eventually
from tests.ratelimit.workers import begin, hammer, hold, look, patient_limiter


@pytest.fixture
def limiter(redis_url: str) -> Iterator[Limiter]:
    """One worker more, to look from."""
    limiter = patient_limiter(redis_url)
    yield limiter
    limiter.stop()


def in_flight(limiter: Limiter, limits: Limits) -> int:
    return look(limiter, "acme", limits).quota_statuses[-1].used


def test_four_workers_and_sixteen_clients_get_exactly_the_limit(redis_url: str, limiter: Limiter) -> None:
    limits = Limits(per_minute=600, per_hour=1_000_000, per_day=1_000_000, concurrent=1_000)
    workers = [begin(hammer, redis_url, limits, 4, 75) for _ in range(4)]
    for _, talk in workers:
        assert talk.recv() == "ready"
    for _, talk in workers:
        talk.send("go")
    answers = [talk.recv() for _, talk in workers]
    for process, _ in workers:
        process.join()
    assert not any(degraded for _, degraded in answers)
    assert sum(admitted for admitted, _ in answers) == 600
    # 1,200 were sent: those that were refused are in no window, and no slot is left taken.
    assert [quota_status.used for quota_status in look(limiter, "acme", limits).quota_statuses] == [600, 600, 600, 0]


def test_killed_worker_holds_its_slots_for_less_than_five_seconds(redis_url: str, limiter: Limiter) -> None:
    limits = Limits(concurrent=10)
    process, talk = begin(hold, redis_url, limits, 10)
    assert talk.recv() == "holding"
    assert in_flight(limiter, limits) == 10
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: in_flight(limiter, limits) == 0, within_seconds=5)
    process.join()
    limiter.admit("acme", limits).release()


def test_worker_that_ends_in_good_order_leaves_nothing_taken(redis_url: str, limiter: Limiter) -> None:
    limits = Limits(concurrent=10)
    process, talk = begin(hold, redis_url, limits, 10)
    assert talk.recv() == "holding"
    talk.send("end")
    process.join()
    assert process.exitcode == 0
    assert in_flight(limiter, limits) == 0
