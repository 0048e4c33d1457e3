"""Callers that send requests continuously, each in its own way, and the responses that they receive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from tests.support.waiting import wait_until

ENOUGH = 4
"""How many responses per caller a check needs."""
WAIT_SECONDS = 60.0

Ask = Callable[[httpx2.Client], httpx2.Response]


@dataclass(frozen=True)
class Answered:
    """One request: its start, its duration, and its status; 0 if no response arrived."""

    began: float
    seconds: float
    status: int


@dataclass
class Load:
    """`callers` by name. A request without a response after `deadline_seconds` is abandoned and has status 0."""

    url: str
    callers: dict[str, Ask]
    deadline_seconds: float
    responses: dict[str, list[Answered]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run two threads per caller until the end of the block."""
        threads = [threading.Thread(target=self._go_on, args=(name,)) for name in self.callers for _ in range(2)]
        self.responses = {name: [] for name in self.callers}
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def since(self, began: float) -> dict[str, list[Answered]]:
        """The responses to requests sent since then."""
        return {
            name: [response for response in found if response.began >= began] for name, found in self.responses.items()
        }

    def wait_for_answers(self) -> float:
        """Wait until each caller has sent new requests and received enough responses. Returns the start of this
        period."""
        began = time.monotonic()
        wait_until(lambda: all(len(found) >= ENOUGH for found in self.since(began).values()), WAIT_SECONDS, self._state)
        return began

    def wait_until_well(self) -> None:
        """Wait until each caller's latest responses are successful."""
        began = time.monotonic()
        wait_until(
            lambda: all(
                len(found) >= ENOUGH and all(response.status < 300 for response in found[-ENOUGH:])
                for found in self.since(began).values()
            ),
            WAIT_SECONDS,
            self._state,
        )

    def _state(self) -> object:
        return {name: [(a.status, round(a.seconds, 2)) for a in found[-6:]] for name, found in self.responses.items()}

    def _go_on(self, name: str) -> None:
        with httpx2.Client(base_url=self.url, timeout=self.deadline_seconds) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                try:
                    status = self.callers[name](client).status_code
                except httpx2.HTTPError:
                    status = 0
                self.responses[name].append(Answered(began, time.monotonic() - began, status))
                self._stop.wait(0.1)  # a steady load, not a flood: what is tested is the product, not the machine
