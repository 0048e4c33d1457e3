"""Worlds in which processes are too busy, or stand still."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.scenarios.scenario import Turn, World
from bench.scenarios.site import Worker


class Loaded(World):
    """Nobody who hammers ever rests, and every core has something else to do as well."""

    name = "loaded"
    rest_seconds = 0.0

    def begin(self) -> None:
        command = [sys.executable, "-c", "while True: pass"]
        self._burners = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]

    def end(self) -> None:
        for burner in self._burners:
            burner.kill()
            burner.wait()


class StoppedWorker(World):
    """A worker is stopped while a key is revoked: until after the receipt, or only until the revocation is under way.

    In the first case it finds requests when it wakes that were sent to it after the receipt.
    """

    name = "stopped"
    lease_seconds = 0.2

    def before(self, number: int) -> None:
        self.site.wait_until_well()

    def play(self, turn: Turn, number: int) -> None:
        worker = self.any_worker(number // 2)
        via = self.any_worker(number, [other for other in self.site.workers if other is not worker])
        if number % 2:
            turn.kind = "stopped and woken at once"
            with stopped(worker):
                turn.ask(via)
            turn.receipt()
            return
        turn.kind = "stopped until after the receipt"
        with stopped(worker):
            turn.ask(via)
            turn.receipt()
            late = turn.send_late(worker)
        turn.collect(late)


@contextmanager
def stopped(worker: Worker) -> Iterator[None]:
    """SIGSTOP, and SIGCONT in the end."""
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)
