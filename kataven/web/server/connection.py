"""A client's connection: the received part of the request, the unsent part of the response, and the deadline.

gunicorn's parser and response use it as their socket. The real socket is non-blocking.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from gunicorn import http
from gunicorn.config import Config

from kataven.web.server.arrival import Arrival
from kataven.web.server.errors import SlowBody
from kataven.web.server.request_threads import Lane
from kataven.web.server.timeouts import NEVER, RESPONSE_BYTES, BodyClock, SocketTimeouts


class Phase(Enum):
    """The state of a connection. In HEAD, BODY, RESPONSE and LINGER it has a deadline."""

    HEAD = auto()
    BODY = auto()
    IN_THREAD = auto()
    """A thread processes the request."""
    RESPONSE = auto()
    IDLE = auto()
    LINGER = auto()
    CLOSED = auto()


def _ignore(_conn: ClientConnection) -> None: ...


class SlowReader(TimeoutError):
    """Raised when the client does not read the response in time."""


class ClientConnection:
    """A connection. The main thread owns it, except in the phase IN_THREAD: see `BufferingWorker._set_idle`."""

    __slots__ = (
        "arrival",
        "buffered",
        "callback",
        "client",
        "clock",
        "continued",
        "deadline",
        "dropped",
        "keep",
        "lane",
        "outbox",
        "parser",
        "phase",
        "received",
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
        self.received = b""
        """The bytes of the request that a thread processes."""
        self.phase = Phase.HEAD
        self.deadline = time.monotonic() + timeouts.head_seconds
        self.timeout = NEVER
        """When an idle connection is closed. gunicorn reads this attribute."""
        self.registered = 0
        """The events for which it is registered with the poller; 0 for none."""
        self.callback: Callable[[ClientConnection], None] = _ignore
        """What the main thread calls at the next event."""
        self.clock: BodyClock | None = None
        self.continued = False
        self.whole = False
        """Whether the request arrived completely before it was passed to a thread."""
        self.lane = Lane.NORMAL
        self.keep = False
        self.outbox = bytearray()
        self.buffered = 0
        """Bytes of this request that count toward BUFFERED_BYTES."""
        self.dropped = 0

    def hand_over(self, whole: bool) -> None:
        """Keep the received bytes for the thread that parses them."""
        self.phase, self.whole = Phase.IN_THREAD, whole
        self.received = bytes(self.arrival.buffer)
        self.arrival = Arrival()

    def take_received(self) -> bytes:
        """The bytes of the request. An idle connection must not keep them."""
        received, self.received = self.received, b""
        return received

    def parse(self, received: bytes) -> Any:
        """The request, parsed by gunicorn. Raises gunicorn's errors."""
        self.parser.unreader.unread(received)
        return next(self.parser)

    def start_clock(self) -> None:
        """Start the deadline of the body when a thread starts to read it: waiting for a thread must not count against
        the client."""
        self.clock = BodyClock(self.timeouts, time.monotonic())

    def take_back(self) -> bytes:
        """The bytes that the client sent after this request."""
        self.clock, self.continued = None, False
        behind: bytes = self.parser.unreader.take_buffered()
        return behind

    def is_finished(self) -> bool:
        """Whether the response was sent completely, and the client sent nothing after its request."""
        behind = self.take_back()
        if behind:
            self.parser.unreader.unread(behind)
        return not behind and not self.outbox

    def recv(self, size: int) -> bytes:
        """Called by the parser. Raises SlowBody immediately if the request was considered complete, otherwise at the
        deadline."""
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
        """Called by gunicorn to send `100 Continue`."""
        self.sendall(data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Send, and buffer what the client doesn't read yet. Blocks only if more than RESPONSE_BYTES are buffered, and
        raises SlowReader at the deadline."""
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
        if len(self.outbox) > RESPONSE_BYTES:
            self._push(time.monotonic() + self.timeouts.body_seconds)

    def flush(self) -> bool:
        """Send buffered bytes until the client stops reading. Returns whether all were sent. Raises OSError."""
        while self.outbox:
            try:
                sent = self.sock.send(memoryview(self.outbox)[:65_536])
            except BlockingIOError:
                return False
            del self.outbox[:sent]
        return True

    def _push(self, deadline: float) -> None:
        while not self.flush() and len(self.outbox) > RESPONSE_BYTES:
            if time.monotonic() >= deadline:
                self.outbox.clear()
                raise SlowReader
            self._wait(select.POLLOUT, deadline)

    def _wait(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.sock, event)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
