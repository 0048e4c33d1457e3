"""Redis and its twin, side by side, on one clock that stands still until it is told to move."""

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

PATIENT = RedisTimeouts(slow=5, answer=30, connect=5)
"""For tests of what is decided: a busy machine is no reason to decide otherwise."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wire(redis_url: str) -> Iterator[RedisPool]:
    wire = RedisPool(redis_url, PATIENT)
    yield wire
    wire.close()


@pytest.fixture
def redis_windows(wire: RedisPool, clock: Clock) -> RedisWindows:
    return RedisWindows(wire, clock=clock)


@pytest.fixture
def memory_windows(clock: Clock) -> MemoryWindows:
    return MemoryWindows(clock=clock)


@pytest.fixture(params=["redis", "memory"])
def windows(request: pytest.FixtureRequest) -> Windows:
    """Each implementation in turn: what a test says of one is promised of both."""
    found: Windows = request.getfixturevalue(f"{request.param}_windows")
    return found


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """For looking at Redis from outside."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kataven.ratelimit")
