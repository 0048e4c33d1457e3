"""A world is a way for things to go wrong; a round in it is a key that every worker knows, revoked and shown again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from bench.scenarios.connection import Connection, request
from bench.scenarios.load import Hammer, Showing, outcome_of
from bench.scenarios.score import Score, Shot
from bench.scenarios.site import Site, Worker

CALM = "all well"
Late = tuple[Connection, float]
"""A connection on which something was sent, and when."""


class Turn:
    """One round: the key, and what can be done with it."""

    def __init__(self, site: Site, hammer: Hammer, score: Score, showing: Showing) -> None:
        self._alice = site.alice
        self._hammer = hammer
        self._score = score
        self._via: Worker | None = None
        self.showing = showing
        self.kind = CALM
        """What is going on, for the report."""

    def show(self, workers: Sequence[Worker]) -> None:
        """Have it hammered on these workers."""
        self._hammer.show(self.showing, workers)

    def warm(self, workers: Sequence[Worker]) -> None:
        """The same, until each of them remembers it."""
        self.show(workers)
        self._hammer.wait_until_warm(self.showing, workers)

    def ask(self, via: Worker) -> None:
        """Ask this worker to revoke it, and don't wait."""
        message = request("PATCH", f"/v1/api-keys/{self.showing.key.id}", self._alice, {"disabled": True})
        self._via = via
        self._hammer.revoking(self.showing)
        via.revoker.send(message)

    def receipt(self) -> None:
        """Wait until the receipt is out."""
        assert self._via is not None
        answer = self._via.revoker.receive()
        self._hammer.revoked(self.showing)
        if answer.status != 200:
            raise RuntimeError(f"a revocation was answered {answer.status}: {answer.body.decode()}")
        receipt: dict[str, Any] = answer.json()["receipt"]
        self._score.calls_ms[self.kind].append((self.showing.receipt_at - self.showing.asked_at) * 1000)
        self._score.receipts[self.kind].append(receipt)

    def send_late(self, worker: Worker) -> list[Late]:
        """Show the key to a worker that may not be listening, on its spare connections."""
        late = [(connection, time.monotonic()) for connection in worker.late]
        for connection, _ in late:
            connection.send(self.showing.message)
        return late

    def collect(self, late: list[Late]) -> None:
        """Count what was answered to these."""
        for connection, started in late:
            outcome = outcome_of(connection.receive())
            self._hammer.note(self.showing, Shot(started, time.monotonic(), outcome))


class World:
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

    def begin(self) -> None:
        """Before the first round."""

    def before(self, number: int) -> None:
        """Before the key of a round is shown."""

    def audience(self) -> Sequence[Worker]:
        """Who is to know the key before it is revoked."""
        return self.site.workers

    def play(self, turn: Turn, number: int) -> None:
        """Revoke the key that everybody knows, until its receipt is out."""
        turn.ask(via=self.any_worker(number))
        turn.receipt()

    def end(self) -> None:
        """After the last round, or after a failure."""

    def any_worker(self, number: int, among: Sequence[Worker] | None = None) -> Worker:
        """Each in turn."""
        workers = among if among is not None else self.site.workers
        return workers[number % len(workers)]


def play(world: World) -> Score:
    """Every round of a world."""
    site, score = world.site, Score()
    evictions_before = len(site.evictions_ms())
    with Hammer(site.workers, score, world.rest_seconds) as hammer:
        try:
            world.begin()
            for number in range(world.rounds):
                world.before(number)
                turn = Turn(site, hammer, score, Showing(site.ground.next_key()))
                turn.warm(world.audience())
                world.play(turn, number)
                turn.show(site.workers)
                hammer.wait_until_settled(turn.showing, site.workers)
                score.rounds += 1
        finally:
            world.end()
    score.evictions_ms = site.evictions_ms()[evictions_before:]
    return score
