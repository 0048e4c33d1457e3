"""Several workers share limits: exact under concurrency, and slots of killed workers are released."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kataven.ratelimit.limiter import Limiter
from kataven.ratelimit.policy import Limits
from tests.ratelimit.limit_keys import WIDE
from tests.ratelimit.waiting import eventually
from tests.ratelimit.workers import hammer, hold, patient_limiter, peek, start

pytestmark = pytest.mark.processes


@pytest.fixture
def limiter(redis_url: str) -> Iterator[Limiter]:
    """A separate worker for inspection."""
    limiter = patient_limiter(redis_url)
    yield limiter
    limiter.stop()


def in_flight(limiter: Limiter, limits: Limits) -> int:
    return peek(limiter, "acme", limits).quota_statuses[-1].used


def test_four_workers_and_sixteen_clients_get_exactly_the_limit(redis_url: str, limiter: Limiter) -> None:
    limits = replace(WIDE, per_minute=600, concurrent=1_000)
    workers = [start(hammer, redis_url, limits, 4, 75) for _ in range(4)]
    for _, talk in workers:
        assert talk.recv() == "ready"
    for _, talk in workers:
        talk.send("go")
    results = [talk.recv() for _, talk in workers]
    for process, _ in workers:
        process.join()
    assert not any(degraded for _, degraded in results)
    assert sum(admitted for admitted, _ in results) == 600
    # 1,200 were sent. Rejected requests are in no window, and all slots are released.
    assert [quota_status.used for quota_status in peek(limiter, "acme", limits).quota_statuses] == [600, 600, 600, 0]


def test_slots_of_a_killed_worker_expire_within_five_seconds(redis_url: str, limiter: Limiter) -> None:
    limits = Limits(concurrent=10)
    process, talk = start(hold, redis_url, limits, 10)
    assert talk.recv() == "holding"
    assert in_flight(limiter, limits) == 10
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: in_flight(limiter, limits) == 0, within_seconds=5)
    process.join()
    limiter.admit("acme", limits).release()


def test_graceful_shutdown_releases_all_slots(redis_url: str, limiter: Limiter) -> None:
    limits = Limits(concurrent=10)
    process, talk = start(hold, redis_url, limits, 10)
    assert talk.recv() == "holding"
    talk.send("end")
    process.join()
    assert process.exitcode == 0
    assert in_flight(limiter, limits) == 0
