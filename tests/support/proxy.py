"""A proxy between the product and a server on a Unix socket that drops, delays and loses data like a network."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.support.waiting import wait_until

PATIENCE_SECONDS = 30.0


class Flow:
    """One connection through the proxy."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.swallowed = False
        self.asked = b""
        """The latest message of the client."""


class Proxy:
    """Forwards connections from a loopback TCP port to the Unix socket `upstream`."""

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._flows: set[Flow] = set()
        self._lock = threading.Lock()
        self._swallowing = False
        self._held: re.Pattern[bytes] | None = None
        self._released = threading.Event()
        self._lost: re.Pattern[bytes] | None = None
        self.holding = 0
        """Number of responses that are held back now."""
        self.losses = 0
        """Number of messages dropped so far."""

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def swallow(self) -> None:
        """Half-open: connections remain open and pass no data, including new ones, until `heal`."""
        with self._lock:
            self._swallowing = True
            for flow in self._flows:
                flow.swallowed = True

    def heal(self) -> None:
        """Forward new connections again. Swallowed connections remain dead, and neither end is notified."""
        self._swallowing = False

    def hold(self, questions: re.Pattern[bytes]) -> None:
        """Hold back responses to matching requests until `release`. The server has sent them already, so they grow
        stale."""
        self._released.clear()
        self._held = questions

    def wait_until_held(self, answers: int) -> None:
        """Wait until N responses are held back. Raises TimeoutError."""
        wait_until(lambda: self.holding >= answers, PATIENCE_SECONDS, lambda: f"{self.holding} answers are held")

    def release(self) -> None:
        """Deliver the responses that were held back."""
        self._held = None
        self._released.set()

    def lose(self, messages: re.Pattern[bytes]) -> None:
        """Drop matching messages of the server until `lose_nothing`."""
        self._lost = messages

    def lose_nothing(self) -> None:
        self._lost = None

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        _shut(self._listener)
        self._threads[0].join()
        self._listener.close()
        self.release()
        for flow in list(self._flows):
            _shut(flow.near)
            _shut(flow.far)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                self._begin(near)

    def _begin(self, near: socket.socket) -> None:
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(str(self._upstream))
        except OSError:
            near.close()
            far.close()
            return
        flow = Flow(near, far)
        with self._lock:
            flow.swallowed = self._swallowing
            self._flows.add(flow)
        self._run(self._carry, flow)

    def _carry(self, flow: Flow) -> None:
        answers = threading.Thread(target=self._pump, args=(flow.far, flow.near, self._answered, flow))
        answers.start()
        self._pump(flow.near, flow.far, self._asked, flow)
        answers.join()
        with self._lock:
            self._flows.discard(flow)
        flow.near.close()
        flow.far.close()

    def _pump(
        self, source: socket.socket, sink: socket.socket, seen: Callable[[Flow, bytes], bytes], flow: Flow
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                passed = seen(flow, data)
                if not flow.swallowed:
                    sink.sendall(passed)
        _shut(source)
        _shut(sink)

    def _asked(self, flow: Flow, data: bytes) -> bytes:
        flow.asked = data
        return data

    def _answered(self, flow: Flow, data: bytes) -> bytes:
        messages = self._lost
        if messages is not None:
            data, lost = messages.subn(b"", data)
            self.losses += lost
        held = self._held
        if held is not None and held.search(flow.asked):
            with self._lock:
                self.holding += 1
            self._released.wait()
            with self._lock:
                self.holding -= 1
        return data

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
