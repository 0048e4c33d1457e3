"""Simulated time, processes that wait, and a network between regions with delay, jitter, retransmissions and cuts."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator, Iterable, Mapping
from random import Random
from typing import Any

Steps = Generator["float | Future", Any, Any]
"""A process: yields seconds to sleep, or a future to wait for, and receives the future's value."""

RETRANSMISSION_SECONDS = 0.2
"""The shortest time after which TCP sends a lost segment again (Linux)."""


class Loop:
    """Runs actions in the order of their simulated time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), action))

    def run_until(self, moment: float) -> None:
        while self._heap and self._heap[0][0] <= moment:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = moment

    def spawn(self, steps: Steps) -> Future:
        """Start a process. The future gets its return value."""
        ended = Future()

        def step(value: Any) -> None:
            try:
                waiting = steps.send(value)
            except StopIteration as stop:
                ended.resolve(stop.value)
                return
            if isinstance(waiting, Future):
                waiting.then(step)
            else:
                self.after(waiting, lambda: step(None))

        step(None)
        return ended


class Future:
    """A value that is set once; later values are ignored."""

    __slots__ = ("_waiting", "done", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self._waiting: list[Callable[[Any], None]] = []

    def resolve(self, value: Any) -> None:
        if not self.done:
            self.done, self.value = True, value
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each(value)

    def then(self, action: Callable[[Any], None]) -> None:
        if self.done:
            action(self.value)
        else:
            self._waiting.append(action)


class Network:
    """Messages between regions, and within one. `round_trips` has seconds, by pair of regions."""

    def __init__(
        self,
        loop: Loop,
        random: Random,
        round_trips: Mapping[frozenset[str], float],
        *,
        local_round_trip: float,
        jitter: float,
        loss: float,
    ) -> None:
        self._loop = loop
        self._random = random
        self._round_trips = round_trips
        self._local_round_trip = local_round_trip
        self._jitter = jitter
        self._loss = loss
        self._cut: set[frozenset[str]] = set()

    def cut(self, pairs: Iterable[frozenset[str]]) -> None:
        """Drop all messages between these pairs of regions from now on, until `heal`."""
        self._cut.update(pairs)

    def heal(self) -> None:
        self._cut.clear()

    def pairs_of(self, region: str) -> list[frozenset[str]]:
        return [pair for pair in self._round_trips if region in pair]

    def one_way(self, source: str, target: str) -> float:
        """Seconds of one message. A lost segment is sent again by TCP: it arrives later."""
        round_trip = self._local_round_trip if source == target else self._round_trips[frozenset((source, target))]
        seconds = round_trip / 2 * (1 + self._random.expovariate(1 / self._jitter))
        while source != target and self._random.random() < self._loss:
            seconds += max(RETRANSMISSION_SECONDS, round_trip)
        return seconds

    def send(self, source: str, target: str, action: Callable[[], None]) -> None:
        """Run `action` at the target, unless the path is cut now or at the time of arrival."""
        pair = frozenset((source, target))
        if pair in self._cut:
            return

        def arrive() -> None:
            if pair not in self._cut:
                action()

        self._loop.after(self.one_way(source, target), arrive)

    def call(self, source: str, target: str, handle: Callable[[], Any], timeout: float = 2.0) -> Future:
        """Run `handle` at the target. The future gets its value, or the value of the future that it returns; None after
        `timeout`."""
        result = Future()

        def reply(value: Any) -> None:
            self.send(target, source, lambda: result.resolve(value))

        def arrive() -> None:
            value = handle()
            if isinstance(value, Future):
                value.then(reply)
            else:
                reply(value)

        self.send(source, target, arrive)
        self._loop.after(timeout, lambda: result.resolve(None))
        return result


def first_of(loop: Loop, future: Future, seconds: float) -> Future:
    """Resolves with the value of `future`, or with None after `seconds`."""
    result = Future()
    future.then(result.resolve)
    loop.after(seconds, lambda: result.resolve(None))
    return result
