"""Fixtures: a guard with a controllable clock, and Redis servers that tests may kill."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.revocation import Guard
from kataven.revocation.epoch import Epoch
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import Lease
from kataven.system import schema
from tests.revocation.scratch_redis import ScratchRedis
from tests.support.clock import Clock

LEASE_SECONDS = 1.0
READER_LEASE_SECONDS = 30.0
HERE = Epoch("redis-a", 7)
"""The epoch of the `guard` fixture."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Guard:
    """With valid leases and one registered cache."""
    guard = Guard(Lease(LEASE_SECONDS, clock), Lease(READER_LEASE_SECONDS, clock))
    guard.subscribe(lambda _: None)
    guard.apply_notice(clock(), FallbackNotice(1, "a mark"))
    guard.home_written(HERE.redis)
    guard.confirm_lease(clock(), HERE)
    return guard


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A short path for Unix sockets, whose path length is limited."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def scratch_redis(short_folder: Path) -> Iterator[ScratchRedis]:
    """A Redis for one test, which may stop and restart it."""
    with ScratchRedis(short_folder) as server:
        yield server


@pytest.fixture
def other_redis() -> Iterator[ScratchRedis]:
    """A second one."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-"))
    with ScratchRedis(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def system_url(postgres: EmbeddedPostgres) -> str:
    """A system database for workers in separate processes."""
    url = postgres.url("fleet")
    schema.upgrade_system(url)
    return url
