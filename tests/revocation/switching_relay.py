"""A relay between processes and two Redis servers, which switches from one to the other during a publication."""

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


class SwitchPoint(StrEnum):
    """The point of a publication at which the relay switches. `IDLE` is before it."""

    IDLE = "idle"
    BEFORE_PUBLISH = "before publish"
    AFTER_PUBLISH = "after publish"
    BEFORE_WAIT = "before wait"
    AFTER_WAIT = "after wait"


class ClosedConnections(StrEnum):
    """Which connections the relay closes when it switches. The others remain connected to their server."""

    NONE = "none"
    LINKS = "links"
    ONE_LINK = "one link"
    ALL = "all"


SWITCH_CASES = tuple(product(SwitchPoint, ClosedConnections))
_REQUESTS = {
    SwitchPoint.BEFORE_PUBLISH: PUBLISH.sha.encode(),
    SwitchPoint.AFTER_PUBLISH: PUBLISH.sha.encode(),
    SwitchPoint.BEFORE_WAIT: b"BLPOP",
    SwitchPoint.AFTER_WAIT: b"BLPOP",
}
_AFTER = {SwitchPoint.AFTER_PUBLISH, SwitchPoint.AFTER_WAIT}


class _Flow:
    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.is_link = False
        """Whether it is a worker's subscription rather than a pooled connection."""
        self.before_reply: Callable[[], None] | None = None
        """Called before the next reply is forwarded."""

    def end(self) -> None:
        for side in (self.near, self.far):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


class SwitchingRelay:
    """Listens on a Unix socket. New connections lead to `targets[0]` until the relay switches."""

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
        self._pending_switch: tuple[SwitchPoint, ClosedConnections] | None = None
        self._lock = threading.Lock()

    def switch_at(self, point: SwitchPoint, closed: ClosedConnections) -> None:
        """Switch once, when a publication is at this point."""
        with self._lock:
            self._pending_switch = (point, closed)
        if point is SwitchPoint.IDLE:
            self._switch_if(lambda pending: pending is SwitchPoint.IDLE)

    def settle(self) -> None:
        """Switch if that has not happened yet, then close every connection, so that all processes use one server."""
        self._switch_if(lambda pending: True)
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
                self._begin(self._forward_requests, flow)
                self._begin(self._forward_replies, flow)

    def _forward_requests(self, flow: _Flow) -> None:
        with suppress(OSError):
            while data := flow.near.recv(65_536):
                flow.is_link |= b"SUBSCRIBE" in data
                self._check_request(flow, data)
                flow.far.sendall(data)
        flow.end()

    def _forward_replies(self, flow: _Flow) -> None:
        with suppress(OSError):
            while data := flow.far.recv(65_536):
                if flow.before_reply is not None:
                    flow.before_reply()
                    flow.before_reply = None
                flow.near.sendall(data)
        flow.end()
        with self._lock:
            self._flows.remove(flow)

    def _check_request(self, flow: _Flow, data: bytes) -> None:
        pending = self._pending_switch
        if pending is None or _REQUESTS.get(pending[0], b"nothing") not in data:
            return
        if pending[0] in _AFTER:
            flow.before_reply = lambda: self._switch_if(lambda point: point in _AFTER)
        else:
            self._switch_if(lambda point: point not in _AFTER)

    def _switch_if(self, due: Callable[[SwitchPoint], bool]) -> None:
        with self._lock:
            if self._pending_switch is None or not due(self._pending_switch[0]):
                return
            closed, self._pending_switch = self._pending_switch[1], None
            self._at = 1 - self._at
            flows = list(self._flows)
        links = [flow for flow in flows if flow.is_link]
        ends = {
            ClosedConnections.NONE: [],
            ClosedConnections.LINKS: links,
            ClosedConnections.ONE_LINK: links[:1],
            ClosedConnections.ALL: flows,
        }[closed]
        for flow in ends:
            flow.end()

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


@dataclass(frozen=True, slots=True)
class Round:
    """One revocation during which the relay switched."""

    point: SwitchPoint
    closed: ClosedConnections
    receipt: Receipt


def switch_repeatedly(fleet: Fleet, relay: SwitchingRelay, rounds: int) -> Iterator[Round]:
    """Revoke a key that every worker has cached, `rounds` times, and switch at each point in turn."""
    for number in range(rounds):
        point, closed = SWITCH_CASES[number % len(SWITCH_CASES)]
        fleet.wait_until_every_worker_caches()
        relay.switch_at(point, closed)
        receipt = fleet.revoke_next()
        yield Round(point, closed, receipt)
        if number % 3 == 2:  # the other rounds start from the state that the switch left
            relay.settle()
            assert eventually(lambda: fleet.revocation.status().lease_confirmed), "no lease after a switch"
