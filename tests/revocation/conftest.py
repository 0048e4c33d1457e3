"""A guard whose clock the tests move, and Redis servers that may be killed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kataven.revocation import Guard
from kataven.revocation.epoch import Epoch
from kataven.revocation.lease import Lease
from tests.revocation.scratch_redis import ScratchRedis
from tests.support.clock import Clock

LEASE_SECONDS = 1.0
HERE = Epoch("redis-a", 7)
"""Where the history stands that `guard` knows."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Guard:
    """With a lease just confirmed, in front of a memory."""
    guard = Guard(Lease(LEASE_SECONDS, clock))
    guard.subscribe(lambda _: None)
    guard.confirmed(clock(), HERE)
    return guard


@pytest.fixture
def scratch_redis() -> Iterator[ScratchRedis]:
    """A Redis of the test's own, to be stopped and started again."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-"))  # a short path: a Unix socket's is limited
    with ScratchRedis(folder) as server:
        yield server
    shutil.rmtree(folder)
