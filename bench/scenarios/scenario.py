"""The base class of the scenarios, and a round: revoke a key that every worker has cached, while requests continue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from bench.scenarios.connection import Connection, request
from bench.scenarios.load import KeyUnderTest, RequestLoad, outcome_of
from bench.scenarios.score import Observation, Score
from bench.scenarios.site import Site, Worker

NO_FAULT = "no fault"
Late = tuple[Connection, float]
"""A connection on which a request was sent, and the time."""


class Round:
    """One round: a key, and the steps of its revocation."""

    def __init__(self, site: Site, load: RequestLoad, score: Score, key_under_test: KeyUnderTest) -> None:
        self._owner_headers = site.owner_headers
        self._load = load
        self._score = score
        self._via: Worker | None = None
        self.key_under_test = key_under_test
        self.kind = NO_FAULT
        """The fault in this round, for the report."""

    def send_on(self, workers: Sequence[Worker]) -> None:
        """Send requests with the key to these workers."""
        self._load.set_key(self.key_under_test, workers)

    def warm(self, workers: Sequence[Worker]) -> None:
        """The same, until each of them has cached the key."""
        self.send_on(workers)
        self._load.wait_until_warm(self.key_under_test, workers)

    def start_revocation(self, via: Worker) -> None:
        """Request the revocation from this worker, without waiting."""
        message = request(
            "PATCH", f"/v1/api-keys/{self.key_under_test.key.id}", self._owner_headers, {"disabled": True}
        )
        self._via = via
        self._load.revocation_started(self.key_under_test)
        via.revoker.send(message)

    def wait_for_receipt(self) -> None:
        """Wait for the receipt."""
        assert self._via is not None
        answer = self._via.revoker.receive()
        self._load.receipt_arrived(self.key_under_test)
        if answer.status != 200:
            raise RuntimeError(f"a revocation returned {answer.status}: {answer.body.decode()}")
        receipt: dict[str, Any] = answer.json()["receipt"]
        self._score.calls_ms[self.kind].append((self.key_under_test.receipt_at - self.key_under_test.asked_at) * 1000)
        self._score.receipts[self.kind].append(receipt)

    def send_to_paused_worker(self, worker: Worker) -> list[Late]:
        """Send requests to a paused worker, on its spare connections."""
        late = [(connection, time.monotonic()) for connection in worker.late]
        for connection, _ in late:
            connection.send(self.key_under_test.message)
        return late

    def collect_late(self, late: list[Late]) -> None:
        """Count the responses to these requests."""
        for connection, started in late:
            outcome = outcome_of(connection.receive())
            self._load.record(self.key_under_test, Observation(started, time.monotonic(), outcome))


class Scenario:
    """No fault.

    Other scenarios override its methods. Each repairs what it breaks, even after an error.
    """

    name: ClassVar[str] = "normal"
    lease_seconds: ClassVar[float] = 1.0
    """The lease length in the benchmark: short where each round waits for its expiry."""
    proxied: ClassVar[bool] = False
    """Whether the second host connects through the proxies."""
    rest_seconds: ClassVar[float] = 0.01
    """Between two requests of a thread: about 500 requests per second in total, so that queues do not dominate."""

    def __init__(self, site: Site, rounds: int) -> None:
        self.site = site
        self.rounds = rounds

    def set_up(self) -> None:
        """Before the first round."""

    def before_round(self, number: int) -> None:
        """Before the key of a round is sent."""

    def workers_to_warm(self) -> Sequence[Worker]:
        """The workers that must have cached the key before it is revoked."""
        return self.site.workers

    def run_round(self, current_round: Round, number: int) -> None:
        """Revoke the key and wait for its receipt."""
        current_round.start_revocation(via=self.pick_worker(number))
        current_round.wait_for_receipt()

    def tear_down(self) -> None:
        """After the last round or after an error."""

    def pick_worker(self, number: int, among: Sequence[Worker] | None = None) -> Worker:
        """The workers in turn."""
        workers = among if among is not None else self.site.workers
        return workers[number % len(workers)]


def run_scenario(scenario: Scenario) -> Score:
    """Run every round of a scenario."""
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
