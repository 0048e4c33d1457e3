"""One client's connection: what has arrived of its request, what is left of its answer, and until when to wait.

To gunicorn's parser and response it is the socket. The real one never blocks.
"""

from __future__ import annotations

import select
import socket
import time
from enum import Enum, auto
from typing import Any

from gunicorn import http
from gunicorn.config import Config

from kataven.web.server.arrival import Arrival
from kataven.web.server.errors import SlowBody
from kataven.web.server.timeouts import ANSWER_BYTES, NEVER, BodyClock, SocketTimeouts


class Phase(Enum):
    """What the connection is doing. In HEAD, BODY, ANSWER and LINGER it has a deadline."""

    HEAD = auto()
    BODY = auto()
    IN_HAND = auto()
    """A thread has it."""
    ANSWER = auto()
    IDLE = auto()
    LINGER = auto()
    CLOSED = auto()


class SlowReader(TimeoutError):
    """Raised when the client does not take its answer in time."""


class ClientConnection:
    """A connection. The main thread has it, but for the phase IN_HAND."""

    __slots__ = (
        "arrival",
        "buffered",
        "client",
        "clock",
        "continued",
        "deadline",
        "dropped",
        "keep",
        "outbox",
        "parser",
        "phase",
        "registered",
        "server",
        "sock",
        "timeout",
        "timeouts",
        "whole",
    )

    def __init__(self, sock: socket.socket, client: Any, server: Any, cfg: Config, timeouts: SocketTimeouts) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.client = client
        self.server = server
        self.timeouts = timeouts
        self.parser: Any = http.get_parser(cfg, self, client)
        self.arrival = Arrival()
        self.phase = Phase.HEAD
        self.deadline = time.monotonic() + timeouts.head_seconds
        self.timeout = NEVER
        """Until when it may be idle; gunicorn's name."""
        self.registered = False
        self.clock: BodyClock | None = None
        self.continued = False
        self.whole = False
        """Whether the request had arrived before it was given to a thread."""
        self.keep = False
        self.outbox = bytearray()
        self.buffered = 0
        """How much of it is counted as kept."""
        self.dropped = 0

    def hand_over(self, whole: bool) -> None:
        """Give the parser what has arrived."""
        self.phase, self.whole = Phase.IN_HAND, whole
        self.parser.unreader.unread(bytes(self.arrival.buffer))
        self.arrival = Arrival()

    def start_clock(self) -> None:
        """A thread begins to read the rest of the body. Not earlier: waiting for a thread is not the client's time."""
        self.clock = BodyClock(self.timeouts, time.monotonic())

    def take_back(self) -> bytes:
        """What the client has sent behind the request that was answered."""
        self.clock, self.continued = None, False
        behind: bytes = self.parser.unreader.take_buffered()
        return behind

    def recv(self, size: int) -> bytes:
        """For the parser. Raises SlowBody at once where the request was believed to be complete, else when its time is
        over."""
        while True:
            if self.clock is not None and time.monotonic() >= self.clock.deadline:
                raise SlowBody
            try:
                data = self.sock.recv(size)
            except BlockingIOError:
                if self.clock is None:
                    raise SlowBody from None
                self._wait(select.POLLIN, self.clock.deadline)
                continue
            if self.clock is not None:
                self.clock.received += len(data)
            return data

    def send(self, data: bytes) -> int:
        """For gunicorn's `100 Continue`."""
        self.sendall(data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Send, or keep what the client does not take yet. Waits only when there is too much to keep; then it raises
        SlowReader when the client's time is over."""
        if self.outbox:
            self.outbox += data
        else:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            self.outbox += memoryview(data)[sent:]
        if len(self.outbox) > ANSWER_BYTES:
            self._push(time.monotonic() + self.timeouts.body_seconds)

    def flush(self) -> bool:
        """Send what is kept, as far as the client takes it. Whether that was everything. Raises OSError."""
        while self.outbox:
            try:
                sent = self.sock.send(memoryview(self.outbox)[:65_536])
            except BlockingIOError:
                return False
            del self.outbox[:sent]
        return True

    def _push(self, deadline: float) -> None:
        while not self.flush() and len(self.outbox) > ANSWER_BYTES:
            if time.monotonic() >= deadline:
                self.outbox.clear()
                raise SlowReader
            self._wait(select.POLLOUT, deadline)

    def _wait(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.sock, event)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
