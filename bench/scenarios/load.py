"""Eight threads that show a key over and over: two on each worker, each on a connection of its own."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self

from bench.scenarios.connection import Answer, Connection, request
from bench.scenarios.environment import Key
from bench.scenarios.score import Score, Shot
from bench.scenarios.site import Worker

ENOUGH = 2
PATIENCE_SECONDS = 40.0


class Showing:
    """One key: it is good until `asked_at`, and worth nothing after `receipt_at`."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.message = request("GET", "/v1/me", {"Authorization": f"Bearer {key.text}"})
        self.asked_at = math.inf
        """Just before the first byte of the revocation was sent."""
        self.receipt_at = math.inf
        """Just after the last byte of its receipt was here."""
        self.accepted: Counter[Hashable] = Counter()
        self.after_receipt: Counter[Hashable] = Counter()
        """By thread: answers to requests that started after the receipt."""


class Hammer:
    """The threads, from entering to leaving. Each rests for so long after an answer. `score` counts what they see."""

    def __init__(self, workers: Sequence[Worker], score: Score, rest_seconds: float) -> None:
        self._score = score
        self._rest_seconds = rest_seconds
        self._changed = Condition()
        self._shown: dict[str, Showing | None] = {worker.id: None for worker in workers}
        self._stopping = False
        self._error: BaseException | None = None
        self._threads = [
            Thread(target=self._run, args=(worker, connection), daemon=True)
            for worker in workers
            for connection in worker.clients
        ]

    def show(self, showing: Showing, workers: Sequence[Worker]) -> None:
        """Have the threads on `workers` show this key from now on, and not their last one."""
        with self._changed:
            for worker in workers:
                self._shown[worker.id] = showing
            self._changed.notify_all()

    def wait_until_warm(self, showing: Showing, workers: Sequence[Worker]) -> None:
        """Return when each thread on `workers` was let in twice, the second time from what its worker remembers."""
        self._wait(lambda: _each(showing.accepted, workers), "to be let in")

    def wait_until_settled(self, showing: Showing, workers: Sequence[Worker]) -> None:
        """Return when each thread on `workers` had two answers to requests that it started after the receipt."""
        self._wait(lambda: _each(showing.after_receipt, workers), "to be answered after the receipt")

    def revoking(self, showing: Showing) -> None:
        """The revocation is about to be asked for."""
        with self._changed:
            showing.asked_at = time.monotonic()

    def revoked(self, showing: Showing) -> None:
        """The receipt is here."""
        with self._changed:
            showing.receipt_at = time.monotonic()

    def note(self, showing: Showing, shot: Shot, thread: Hashable = None) -> None:
        """Count what somebody saw."""
        score = self._score
        with self._changed:
            late = shot.started > showing.receipt_at
            score.requests += 1
            score.after_receipt += late
            score.accepted += late and shot.outcome == "accepted"
            score.stale += not late and shot.outcome == "accepted" and shot.answered > showing.receipt_at
            if odd := _odd(showing, shot, late=late):
                score.odd[odd] += 1
            showing.accepted[thread] += shot.outcome == "accepted"
            showing.after_receipt[thread] += late
            self._changed.notify_all()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, worker: Worker, connection: Connection) -> None:
        try:
            while (showing := self._next(worker)) is not None:
                self.note(showing, shoot(connection, showing), connection)
                time.sleep(self._rest_seconds)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self, worker: Worker) -> Showing | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._shown[worker.id] is not None)
            return None if self._stopping else self._shown[worker.id]

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._error is not None or ready(), PATIENCE_SECONDS):
                raise TimeoutError(f"not every thread came {what}; seen so far: {self._score}")
            if self._error is not None:
                raise RuntimeError("a thread of the hammer has ended") from self._error


def shoot(connection: Connection, showing: Showing) -> Shot:
    """Show the key once."""
    started = time.monotonic()
    answer = connection.ask(showing.message)
    return Shot(started, time.monotonic(), outcome_of(answer))


def outcome_of(answer: Answer) -> str:
    """In one word, or in two if it is neither of those expected."""
    if answer.status == 200:
        return "accepted"
    code: Any = answer.json().get("code")
    return "revoked" if (answer.status, code) == (403, "revoked_credential") else f"{answer.status} {code}"


def _odd(showing: Showing, shot: Shot, *, late: bool) -> str | None:
    if late and shot.outcome != "revoked":
        return f"{shot.outcome} after the receipt"
    if shot.answered < showing.asked_at and shot.outcome != "accepted":
        return f"{shot.outcome} before the revocation"
    if shot.outcome not in {"accepted", "revoked"}:
        return f"{shot.outcome} during the revocation"
    return None


def _each(counts: Counter[Hashable], workers: Sequence[Worker]) -> bool:
    return all(counts[connection] >= ENOUGH for worker in workers for connection in worker.clients)
