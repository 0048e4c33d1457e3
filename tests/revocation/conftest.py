"""A guard whose clock the tests move, and Redis servers that may be killed."""

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
READING_SECONDS = 30.0
HERE = Epoch("redis-a", 7)
"""Where the history stands that `guard` knows."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Guard:
    """With a lease just confirmed, in front of a memory."""
    guard = Guard(Lease(LEASE_SECONDS, clock), Lease(READING_SECONDS, clock))
    guard.subscribe(lambda _: None)
    guard.apply_notice(clock(), FallbackNotice(1, "a mark"))
    guard.home_recorded(HERE.redis)
    guard.lease_confirmed(clock(), HERE)
    return guard


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For Unix sockets, whose paths are limited."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def scratch_redis(short_folder: Path) -> Iterator[ScratchRedis]:
    """A Redis of the test's own, to be stopped and started again."""
    with ScratchRedis(short_folder) as server:
        yield server


@pytest.fixture
def other_redis() -> Iterator[ScratchRedis]:
    """Another one beside it."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-"))
    with ScratchRedis(folder) as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def notices_url(postgres: EmbeddedPostgres) -> str:
    """A system database, for workers in processes of their own."""
    url = postgres.url("fleet")
    schema.upgrade_system(url)
    return url
