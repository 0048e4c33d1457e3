"""A world is a way for things to go wrong; a round in it is a key that every worker knows, revoked and shown again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from bench.scenarios.connection import Connection, request
from bench.scenarios.load import KeyUnderTest, RequestLoad, outcome_of
from bench.scenarios.score import Observation, Score
from bench.scenarios.site import Site, Worker

NO_FAULT = "all well"
Late = tuple[Connection, float]
"""A connection on which something was sent, and when."""


class Round:
    """One round: the key, and what can be done with it."""

    def __init__(self, site: Site, load: RequestLoad, score: Score, key_under_test: KeyUnderTest) -> None:
        self._owner_headers = site.owner_headers
        self._load = load
        self._score = score
        self._via: Worker | None = None
        self.key_under_test = key_under_test
        self.kind = NO_FAULT
        """What is going on, for the report."""

    def send_on(self, workers: Sequence[Worker]) -> None:
        """Have it hammered on these workers."""
        self._load.set_key(self.key_under_test, workers)

    def warm(self, workers: Sequence[Worker]) -> None:
        """The same, until each of them remembers it."""
        self.send_on(workers)
        self._load.wait_until_warm(self.key_under_test, workers)

    def start_revocation(self, via: Worker) -> None:
        """Ask this worker to revoke it, and don't wait."""
        message = request(
            "PATCH", f"/v1/api-keys/{self.key_under_test.key.id}", self._owner_headers, {"disabled": True}
        )
        self._via = via
        self._load.revocation_started(self.key_under_test)
        via.revoker.send(message)

    def wait_for_receipt(self) -> None:
        """Wait until the receipt is out."""
        assert self._via is not None
        answer = self._via.revoker.receive()
        self._load.receipt_arrived(self.key_under_test)
        if answer.status != 200:
            raise RuntimeError(f"a revocation was answered {answer.status}: {answer.body.decode()}")
        receipt: dict[str, Any] = answer.json()["receipt"]
        self._score.calls_ms[self.kind].append((self.key_under_test.receipt_at - self.key_under_test.asked_at) * 1000)
        self._score.receipts[self.kind].append(receipt)

    def send_to_paused_worker(self, worker: Worker) -> list[Late]:
        """Show the key to a worker that may not be listening, on its spare connections."""
        late = [(connection, time.monotonic()) for connection in worker.late]
        for connection, _ in late:
            connection.send(self.key_under_test.message)
        return late

    def collect_late(self, late: list[Late]) -> None:
        """Count what was answered to these."""
        for connection, started in late:
            outcome = outcome_of(connection.receive())
            self._load.record(self.key_under_test, Observation(started, time.monotonic(), outcome))


class Scenario:
    """Nothing goes wrong.

    The others differ from it. What a world breaks it mends itself, also when an error ends it.
    """

    name: ClassVar[str] = "normal"
    lease_seconds: ClassVar[float] = 1.0
    """For the bench: short where each round waits one out."""
    proxied: ClassVar[bool] = False
    """Whether the second host has to be behind the proxies."""
    rest_seconds: ClassVar[float] = 0.01
    """Between two requests of a thread: some 500 a second in all, so that it is not queues alone that are measured."""

    def __init__(self, site: Site, rounds: int) -> None:
        self.site = site
        self.rounds = rounds

    def set_up(self) -> None:
        """Before the first round."""

    def before_round(self, number: int) -> None:
        """Before the key of a round is shown."""

    def workers_to_warm(self) -> Sequence[Worker]:
        """Who is to know the key before it is revoked."""
        return self.site.workers

    def run_round(self, current_round: Round, number: int) -> None:
        """Revoke the key that everybody knows, until its receipt is out."""
        current_round.start_revocation(via=self.pick_worker(number))
        current_round.wait_for_receipt()

    def tear_down(self) -> None:
        """After the last round, or after a failure."""

    def pick_worker(self, number: int, among: Sequence[Worker] | None = None) -> Worker:
        """Each in turn."""
        workers = among if among is not None else self.site.workers
        return workers[number % len(workers)]


def run_scenario(scenario: Scenario) -> Score:
    """Every round of a world."""
    site, score = scenario.site, Score()
    evictions_before = len(site.evictions_ms())
    with RequestLoad(site.workers, score, scenario.rest_seconds) as load:
        try:
            scenario.set_up()
            for number in range(scenario.rounds):
                scenario.before_round(number)
                current_round = Round(site, load, score, KeyUnderTest(site.environment.next_key()))
                current_round.warm(scenario.workers_to_warm())
                scenario.run_round(current_round, number)
                current_round.send_on(site.workers)
                load.wait_until_answered_after_receipt(current_round.key_under_test, site.workers)
                score.rounds += 1
        finally:
            scenario.tear_down()
    score.evictions_ms = site.evictions_ms()[evictions_before:]
    return score
