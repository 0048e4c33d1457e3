"""Eight threads that send continuous requests with a key: two on each worker, each on its own connection."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self

from bench.scenarios.connection import Connection, Response, request
from bench.scenarios.environment import Key
from bench.scenarios.score import Observation, Score
from bench.scenarios.site import Worker

ENOUGH = 2
TIMEOUT_SECONDS = 40.0


class KeyUnderTest:
    """One key: valid until `asked_at`, revoked after `receipt_at`."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.message = request("GET", "/v1/me", {"Authorization": f"Bearer {key.text}"})
        self.asked_at = math.inf
        """Immediately before the first byte of the revocation was sent."""
        self.receipt_at = math.inf
        """Immediately after the last byte of its receipt was received."""
        self.accepted: Counter[Hashable] = Counter()
        self.after_receipt: Counter[Hashable] = Counter()
        """By thread: responses to requests that started after the receipt."""


class RequestLoad:
    """Runs the threads while it is entered. Each waits `rest_seconds` after a response. `score` counts the results."""

    def __init__(self, workers: Sequence[Worker], score: Score, rest_seconds: float) -> None:
        self._score = score
        self._rest_seconds = rest_seconds
        self._changed = Condition()
        self._keys: dict[str, KeyUnderTest | None] = {worker.id: None for worker in workers}
        self._stopping = False
        self._error: BaseException | None = None
        self._threads = [
            Thread(target=self._run, args=(worker, connection), daemon=True)
            for worker in workers
            for connection in worker.clients
        ]

    def set_key(self, key_under_test: KeyUnderTest, workers: Sequence[Worker]) -> None:
        """Make the threads on `workers` send this key from now on."""
        with self._changed:
            for worker in workers:
                self._keys[worker.id] = key_under_test
            self._changed.notify_all()

    def wait_until_warm(self, key_under_test: KeyUnderTest, workers: Sequence[Worker]) -> None:
        """Return when each thread on `workers` was accepted twice, the second time from the cache."""
        self._wait(lambda: _each(key_under_test.accepted, workers), "accepted responses")

    def wait_until_answered_after_receipt(self, key_under_test: KeyUnderTest, workers: Sequence[Worker]) -> None:
        """Return when each thread on `workers` received two responses to requests that started after the receipt."""
        self._wait(lambda: _each(key_under_test.after_receipt, workers), "responses after the receipt")

    def revocation_started(self, key_under_test: KeyUnderTest) -> None:
        """The revocation is about to be requested."""
        with self._changed:
            key_under_test.asked_at = time.monotonic()

    def receipt_arrived(self, key_under_test: KeyUnderTest) -> None:
        """The receipt has arrived."""
        with self._changed:
            key_under_test.receipt_at = time.monotonic()

    def record(self, key_under_test: KeyUnderTest, observation: Observation, thread: Hashable = None) -> None:
        """Count one response."""
        score = self._score
        with self._changed:
            late = observation.started > key_under_test.receipt_at
            score.requests += 1
            score.after_receipt += late
            score.accepted += late and observation.outcome == "accepted"
            score.stale += (
                not late and observation.outcome == "accepted" and observation.answered > key_under_test.receipt_at
            )
            if unexpected := _unexpected(key_under_test, observation, late=late):
                score.unexpected[unexpected] += 1
            key_under_test.accepted[thread] += observation.outcome == "accepted"
            key_under_test.after_receipt[thread] += late
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
            while (key_under_test := self._next(worker)) is not None:
                self.record(key_under_test, send_key(connection, key_under_test), connection)
                time.sleep(self._rest_seconds)
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self, worker: Worker) -> KeyUnderTest | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._keys[worker.id] is not None)
            return None if self._stopping else self._keys[worker.id]

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._error is not None or ready(), TIMEOUT_SECONDS):
                raise TimeoutError(f"not every thread received {what}; results so far: {self._score}")
            if self._error is not None:
                raise RuntimeError("a thread of the load has ended") from self._error


def send_key(connection: Connection, key_under_test: KeyUnderTest) -> Observation:
    """Send the key once."""
    started = time.monotonic()
    answer = connection.exchange(key_under_test.message)
    return Observation(started, time.monotonic(), outcome_of(answer))


def outcome_of(answer: Response) -> str:
    """`accepted`, `revoked`, or the status and code of any other response."""
    if answer.status == 200:
        return "accepted"
    code: Any = answer.json().get("code")
    return "revoked" if (answer.status, code) == (403, "revoked_credential") else f"{answer.status} {code}"


def _unexpected(key_under_test: KeyUnderTest, observation: Observation, *, late: bool) -> str | None:
    if late and observation.outcome != "revoked":
        return f"{observation.outcome} after the receipt"
    if observation.answered < key_under_test.asked_at and observation.outcome != "accepted":
        return f"{observation.outcome} before the revocation"
    if observation.outcome not in {"accepted", "revoked"}:
        return f"{observation.outcome} during the revocation"
    return None


def _each(counts: Counter[Hashable], workers: Sequence[Worker]) -> bool:
    return all(counts[connection] >= ENOUGH for worker in workers for connection in worker.clients)
