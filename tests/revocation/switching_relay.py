"""A relay between processes and two Redis servers: it swings from one to the other in the middle of a publication."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Self

from kataven.revocation import Receipt
from kataven.revocation.scripts import PUBLISH
from tests.revocation.eventually import eventually
from tests.revocation.fleet import Fleet


class Point(StrEnum):
    """Where in a publication the relay swings. `IDLE` is before it."""

    IDLE = "idle"
    BEFORE_PUBLISH = "before publish"
    AFTER_PUBLISH = "after publish"
    BEFORE_WAIT = "before wait"
    AFTER_WAIT = "after wait"


class Cut(StrEnum):
    """Which connections end when the relay swings; the others go on leading to the server that they led to."""

    NONE = "none"
    LINKS = "links"
    ONE_LINK = "one link"
    ALL = "all"


SWINGS = tuple(product(Point, Cut))
_ASKED = {
    Point.BEFORE_PUBLISH: PUBLISH.sha.encode(),
    Point.AFTER_PUBLISH: PUBLISH.sha.encode(),
    Point.BEFORE_WAIT: b"BLPOP",
    Point.AFTER_WAIT: b"BLPOP",
}
_AFTER = {Point.AFTER_PUBLISH, Point.AFTER_WAIT}


class _Flow:
    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.is_link = False
        """Whether it is a worker's subscription, and not a connection from a pool."""
        self.answering: Callable[[], None] | None = None
        """To be done before the next answer is passed on."""

    def end(self) -> None:
        for side in (self.near, self.far):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


class SwingingRelay:
    """Listens on a Unix socket. A new connection leads to `targets[0]`, until the relay swings."""

    def __init__(self, folder: Path, targets: tuple[Path, Path]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "relay.sock"))
        self._listener.listen(64)
        self.url = f"unix://{folder / 'relay.sock'}?db=0"
        self._targets = targets
        self._at = 0
        self._flows: list[_Flow] = []
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._armed: tuple[Point, Cut] | None = None
        self._lock = threading.Lock()

    def arm(self, point: Point, cut: Cut) -> None:
        """Swing once, when a publication is at this point."""
        with self._lock:
            self._armed = (point, cut)
        if point is Point.IDLE:
            self._swing_if(lambda armed: armed is Point.IDLE)

    def settle(self) -> None:
        """Swing if that has not happened yet; then end every connection, so that each process is at one server."""
        self._swing_if(lambda armed: True)
        for flow in list(self._flows):
            flow.end()

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for flow in list(self._flows):
            flow.end()
        for thread in self._threads[1:]:
            thread.join()
        for end in [self._listener, *self._ends]:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                self._ends += [near, far]
                far.connect(str(self._targets[self._at]))
                flow = _Flow(near, far)
                with self._lock:
                    self._flows.append(flow)
                self._begin(self._verify_uncached, flow)
                self._begin(self._answer, flow)

    def _verify_uncached(self, flow: _Flow) -> None:
        with suppress(OSError):
            while data := flow.near.recv(65_536):
                flow.is_link |= b"SUBSCRIBE" in data
                self._asked(flow, data)
                flow.far.sendall(data)
        flow.end()

    def _answer(self, flow: _Flow) -> None:
        with suppress(OSError):
            while data := flow.far.recv(65_536):
                if flow.answering is not None:
                    flow.answering()
                    flow.answering = None
                flow.near.sendall(data)
        flow.end()
        with self._lock:
            self._flows.remove(flow)

    def _asked(self, flow: _Flow, data: bytes) -> None:
        armed = self._armed
        if armed is None or _ASKED.get(armed[0], b"nothing") not in data:
            return
        if armed[0] in _AFTER:
            flow.answering = lambda: self._swing_if(lambda point: point in _AFTER)
        else:
            self._swing_if(lambda point: point not in _AFTER)

    def _swing_if(self, due: Callable[[Point], bool]) -> None:
        with self._lock:
            if self._armed is None or not due(self._armed[0]):
                return
            cut, self._armed = self._armed[1], None
            self._at = 1 - self._at
            flows = list(self._flows)
        links = [flow for flow in flows if flow.is_link]
        ends = {Cut.NONE: [], Cut.LINKS: links, Cut.ONE_LINK: links[:1], Cut.ALL: flows}[cut]
        for flow in ends:
            flow.end()

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


@dataclass(frozen=True, slots=True)
class Round:
    """One revocation, with the relay swinging in it."""

    point: Point
    cut: Cut
    receipt: Receipt


def swing(fleet: Fleet, relay: SwingingRelay, rounds: int) -> Iterator[Round]:
    """Revoke a key that every worker remembers, so many times, and swing at each point in turn."""
    for number in range(rounds):
        point, cut = SWINGS[number % len(SWINGS)]
        fleet.until_every_worker_remembers()
        relay.arm(point, cut)
        receipt = fleet.revoke_next()
        yield Round(point, cut, receipt)
        if number % 3 == 2:  # otherwise what the swing left behind is where the next round begins
            relay.settle()
            assert eventually(lambda: fleet.revocation.status().lease_confirmed), "no lease after a swing"
