"""The threads that process requests, with a bound on how long a request waits for one.

Without a bound, a worker that receives more than it can process builds a queue, and each response is late. Instead, a
request that waited too long is shed: the client receives 503 and can try again, and the other responses are on time.

A request may wait `wait_seconds`. If the queue has not been empty for `standing_seconds`, the worker is overloaded, and
a request may wait `overloaded_wait_seconds` only: otherwise each request would wait almost as long as the bound (B.
Maurer, "Fail at Scale", ACM Queue 13.8, 2015).

Health checks, and urgent requests such as revocations, have a separate lane and thread each, and are never shed. They
don't overtake the others elsewhere, so a flood of them can't take more than that thread from the others. A revocation
can wait for a database, so health checks must not wait behind it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

log = logging.getLogger("kataven.server")

Request = TypeVar("Request")


class Lane(Enum):
    """Where a request waits for a thread."""

    NORMAL = auto()
    URGENT = auto()
    PROBE = auto()


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How long a request waits for a thread, at most."""

    wait_seconds: float = 2.0
    overloaded_wait_seconds: float = 0.25
    standing_seconds: float = 1.0


class _Queued(NamedTuple, Generic[Request]):
    request: Request
    since: float


class RequestThreads(Generic[Request]):
    """`count` threads, and one for each other lane. Each calls `serve` with a request, or `shed` if it waited too long.

    `shed` is called in the thread that finds the request, and must not block.
    """

    def __init__(
        self,
        count: int,
        limits: QueueLimits,
        serve: Callable[[Request], None],
        shed: Callable[[Request], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._serve, self._shed, self._clock = limits, serve, shed, clock
        # A token announces a request. Only the lanes say which one it is, so a token may find none.
        self._lane: deque[_Queued[Request]] = deque()
        self._others: dict[Lane, deque[_Queued[Request]]] = {Lane.PROBE: deque(), Lane.URGENT: deque()}
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._other_tokens: dict[Lane, SimpleQueue[bool]] = {lane: SimpleQueue() for lane in self._others}
        self._empty_at = clock()
        self._count = count
        for number in range(count):
            self._start(f"request-{number}", self._tokens, self._next)
        for lane, waiting in self._others.items():
            self._start(f"{lane.name.lower()}-request", self._other_tokens[lane], partial(_taken, waiting))

    def submit(self, request: Request, lane: Lane = Lane.NORMAL) -> None:
        """Queue a request."""
        queued = _Queued(request, self._clock())
        if lane is Lane.NORMAL:
            if not self._lane:
                self._empty_at = queued.since
            self._lane.append(queued)
        else:
            self._others[lane].append(queued)
            self._other_tokens[lane].put(True)
        self._tokens.put(True)

    def shed_overdue(self) -> None:
        """Shed the requests that waited too long. Call it regularly: all threads may be occupied for longer."""
        while (oldest := _oldest(self._lane)) is not None and self._is_overdue(oldest):
            queued = _taken(self._lane)
            if queued is None:
                return
            if queued is not oldest:  # a thread took that one in between
                self._lane.appendleft(queued)
                self._tokens.put(True)
                return
            self._shed(queued.request)

    def shutdown(self, wait: bool = False) -> None:
        """End the threads after the requests that are queued. `wait` must be false."""
        if wait:
            raise ValueError("a thread may be occupied for as long as a request takes")
        for _ in range(self._count):
            self._tokens.put(False)
        for tokens in self._other_tokens.values():
            tokens.put(False)

    def _start(self, name: str, tokens: SimpleQueue[bool], take: Callable[[], _Queued[Request] | None]) -> None:
        threading.Thread(target=self._run, args=(tokens, take), name=name, daemon=True).start()

    def _run(self, tokens: SimpleQueue[bool], take: Callable[[], _Queued[Request] | None]) -> None:
        while tokens.get():
            queued = take()
            if queued is None:
                continue
            try:
                self._serve(queued.request)
            except Exception:
                log.exception("a request thread failed")

    def _next(self) -> _Queued[Request] | None:
        """The next request that is not overdue; those of the other lanes last, because these have their own threads."""
        while (queued := _taken(self._lane)) is not None:
            if not self._lane:
                self._empty_at = self._clock()
            if not self._is_overdue(queued):
                return queued
            self._shed(queued.request)
        return next((queued for lane in self._others.values() if (queued := _taken(lane)) is not None), None)

    def _is_overdue(self, queued: _Queued[Request]) -> bool:
        now, limits = self._clock(), self._limits
        overloaded = now - self._empty_at > limits.standing_seconds
        return now - queued.since > (limits.overloaded_wait_seconds if overloaded else limits.wait_seconds)


def _taken(lane: deque[_Queued[Request]]) -> _Queued[Request] | None:
    try:
        return lane.popleft()
    except IndexError:
        return None


def _oldest(lane: deque[_Queued[Request]]) -> _Queued[Request] | None:
    try:
        return lane[0]
    except IndexError:
        return None
