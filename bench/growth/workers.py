"""Workers that share one Redis: processes that each renew a lease and confirm revocations, as workers of the API do."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from bench.growth.growth import Growth, Measure, Quantity
from bench.harness import shared_harness
from kataven import assembly, settings
from kataven.revocation.target import RevocationTarget
from tests.support.app_harness import AppHarness
from tests.support.waiting import wait_until

SECONDS_TO_START = 120
STARTED_TOGETHER = 4
TIMES = 15


def quantity(opened: ExitStack, folder: Path) -> Quantity:
    """Worker processes. They are forked, so that 200 of them fit into memory."""
    folder.mkdir()
    harness = opened.enter_context(shared_harness(folder, max_connections=600))  # each worker reads fallback notices
    workers: list[int] = []
    opened.callback(_kill, workers)
    parts = assembly.foundation(settings.load(harness.environ))
    revocation = parts.revocation  # of this process, which has no lease: it only revokes

    def grow(size: int) -> None:
        while len(workers) < size:
            for _ in range(min(STARTED_TOGETHER, size - len(workers))):
                workers.append(_fork(harness))
            wait_until(lambda: len(revocation.workers()) == len(workers), SECONDS_TO_START, revocation.workers)

    def measures(size: int) -> Sequence[Measure]:
        def revoke() -> None:
            receipt = revocation.revoke(RevocationTarget("acme", str(uuid4())))
            assert receipt.workers == receipt.acknowledged == size, receipt

        return (Measure("revoking a key, until every worker confirmed", revoke, Growth.LINEAR, TIMES),)

    return Quantity("workers of one Redis", (2, 20, 200), grow, measures)


def _fork(harness: AppHarness) -> int:
    """A process with the revocation of a worker. It ends when it is killed."""
    if child := os.fork():
        return child
    try:
        parts = assembly.foundation(settings.load(harness.environ))
        parts.revocation.start()
        signal.pause()
    finally:
        os._exit(1)


def _kill(workers: list[int]) -> None:
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    for worker in workers:
        os.waitpid(worker, 0)
