"""Fixtures: Redis and in-memory windows on one clock, which advances only when a test advances it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import redis

from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.memory import MemoryWindows
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.windows import RedisWindows, Windows
from tests.support.clock import Clock

PATIENT = RedisTimeouts(slow=5, reply=30, connect=5)
"""For tests of decisions: long timeouts, so a busy machine does not start the fallback."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(redis_url: str) -> Iterator[RedisPool]:
    pool = RedisPool(redis_url, PATIENT)
    yield pool
    pool.close()


@pytest.fixture
def redis_windows(pool: RedisPool, clock: Clock) -> RedisWindows:
    return RedisWindows(pool, clock=clock)


@pytest.fixture
def memory_windows(clock: Clock) -> MemoryWindows:
    return MemoryWindows(clock=clock)


@pytest.fixture(params=["redis", "memory"])
def windows(request: pytest.FixtureRequest) -> Windows:
    """Each implementation in turn. Both must behave the same."""
    found: Windows = request.getfixturevalue(f"{request.param}_windows")
    return found


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A separate client for inspecting Redis."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kataven.ratelimit")
