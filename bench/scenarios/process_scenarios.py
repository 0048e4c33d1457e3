"""Scenarios in which processes are overloaded or paused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.scenarios.scenario import Round, Scenario
from bench.scenarios.site import Worker


class BusyMachine(Scenario):
    """The threads send requests without a pause, and every core has additional load."""

    name = "loaded"
    rest_seconds = 0.0

    def set_up(self) -> None:
        command = [sys.executable, "-c", "while True: pass"]
        self._burners = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]

    def tear_down(self) -> None:
        for burner in self._burners:
            burner.kill()
            burner.wait()


class PausedWorker(Scenario):
    """A worker is paused while a key is revoked: until after the receipt, or until the revocation has started.

    In the first case, requests that were sent after the receipt are waiting when it resumes.
    """

    name = "paused"
    lease_seconds = 0.2

    def before_round(self, number: int) -> None:
        self.site.wait_until_healthy()

    def run_round(self, current_round: Round, number: int) -> None:
        worker = self.pick_worker(number // 2)
        via = self.pick_worker(number, [other for other in self.site.workers if other is not worker])
        if number % 2:
            current_round.kind = "paused and resumed immediately"
            with paused(worker):
                current_round.start_revocation(via)
            current_round.wait_for_receipt()
            return
        current_round.kind = "paused until after the receipt"
        with paused(worker):
            current_round.start_revocation(via)
            current_round.wait_for_receipt()
            late = current_round.send_to_paused_worker(worker)
        current_round.collect_late(late)


@contextmanager
def paused(worker: Worker) -> Iterator[None]:
    """Sends SIGSTOP, and SIGCONT at the end."""
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)
