"""One connection to Redis with short timeouts.

It uses RESP2 over a plain socket with hiredis and waits in the kernel (`SO_RCVTIMEO`). A waiting thread holds no lock,
and time spent waiting for the interpreter's lock is not counted as latency of Redis.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis

from kataven.ratelimit.latency import LatencyTracker, RedisTimeouts
from kataven.redis_url import RedisAddress

READ_BYTES = 4096
TIMER_SECONDS = 0.01
"""The resolution of the kernel's timer: a timeout can fire this much later."""
_NOTHING = object()


class Unreachable(Exception):
    """Redis can't be reached, closed the connection, or did not reply in time."""


class Stale(Unreachable):
    """The connection was closed. A new connection may work."""


class Refusal(Exception):
    """An error reply of Redis, with its text: `NOSCRIPT …`, `LOADING …`."""


def pack(*command: str | bytes | int) -> bytes:
    """Encode a command for the protocol."""
    return hiredis.pack_command(command)  # type: ignore[arg-type, no-any-return]  # its stub says: one argument


class RedisSocket:
    """One socket, for one thread at a time. After Unreachable, it must be closed."""

    def __init__(self, address: RedisAddress, timeouts: RedisTimeouts, latency: LatencyTracker | None = None) -> None:
        """Connect, authenticate and select the database of `address`. Raises Unreachable or Refusal.

        Connections to the same Redis share one `latency` tracker.
        """
        self.address = address
        self._timeouts = timeouts
        self._latency = latency or LatencyTracker(timeouts)
        self._reader = hiredis.Reader(protocolError=Unreachable, notEnoughData=_NOTHING)
        self._unread = 0
        self._waited = 0.0
        self.slow = False
        """Whether the last reply was slow."""
        try:
            self._socket = _connect(address, timeouts)
        except OSError as error:
            raise Unreachable(f"can't connect: {error}") from error
        try:
            for greeting in _greetings(address):
                self.call(pack(*greeting))
        except BaseException:
            self.discard()
            raise

    def call(self, command: bytes) -> Any:
        """Send a packed command and return its reply. Raises Refusal, Stale or Unreachable."""
        started = time.perf_counter()
        self.send(command)
        self._waited, self.slow = 0.0, False
        while self._unread > 1:
            self._read()
        reply = self._read()
        self._latency.record_round_trip(time.perf_counter() - started)
        if self._waited:
            self.slow = self._waited >= self._latency.slow_threshold
        if isinstance(reply, hiredis.ReplyError):
            raise Refusal(str(reply))
        return reply

    def call_all(self, commands: Sequence[bytes]) -> list[Any]:
        """Send packed commands as one pipeline and return their replies in order. An error reply is a Refusal object.

        The timeout for one reply applies to all replies together. Raises Stale or Unreachable. The commands must fit
        into the socket's buffers, because nothing is read before everything is sent.
        """
        self.send(b"".join(commands), len(commands))
        self._waited, self.slow = 0.0, False
        while self._unread > len(commands):
            self._read()
        answers = [self._read() for _ in commands]
        if self._waited:
            self.slow = self._waited >= self._latency.slow_threshold
        return [Refusal(str(one)) if isinstance(one, hiredis.ReplyError) else one for one in answers]

    def send(self, command: bytes, answers: int = 1) -> None:
        """Send without waiting. The replies are read and discarded later. Raises Stale or Unreachable."""
        try:
            self._socket.sendall(command)
        except (TimeoutError, BlockingIOError) as error:
            raise Unreachable("sending to Redis timed out") from error
        except OSError as error:
            raise Stale(f"connection lost: {error}") from error
        self._unread += answers

    def close(self) -> None:
        """Read all pending replies, as long as Redis is reachable, then close the connection.

        If a socket with unread replies is closed, the kernel resets the connection, and Redis can lose sent commands.
        """
        with contextlib.suppress(Unreachable):
            self._waited = 0.0
            while self._unread:
                self._read(self._timeouts.close)
        self._socket.close()

    def discard(self) -> None:
        """Close without reading pending replies."""
        self._socket.close()

    def _read(self, at_most: float | None = None) -> Any:
        """The next reply. Waits for the tracked reply timeout, or for `at_most` seconds if given."""
        while (reply := self._reader.gets()) is _NOTHING:
            waiting_since = time.perf_counter()
            try:
                received = self._socket.recv(READ_BYTES)
            except (TimeoutError, BlockingIOError):
                # The kernel waited for `slow` seconds. The excess is time in which this thread had no CPU core or
                # waited for the interpreter's lock. It indicates how delayed other processes on this host are.
                elapsed = time.perf_counter() - waiting_since
                late = max(0.0, elapsed - self._timeouts.slow - TIMER_SECONDS)
                self._waited += elapsed - late
                self._latency.record_delay(late)
                timeout = self._latency.reply_timeout if at_most is None else at_most
                if self._waited >= timeout:
                    raise Unreachable(f"no reply within {timeout:.2g} s") from None
                continue
            except OSError as error:
                raise Stale(f"connection lost: {error}") from error
            if not received:
                raise Stale("connection closed by Redis")
            self._reader.feed(received)
        self._unread -= 1
        return reply


def _connect(address: RedisAddress, timeouts: RedisTimeouts) -> socket.socket:
    if address.path is not None:
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(timeouts.connect)
        try:
            plain.connect(address.path)
        except BaseException:
            plain.close()
            raise
        return _bound(plain, timeouts)
    tls = address.tls_context()
    plain = socket.create_connection((address.host, address.port), timeout=timeouts.connect)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return _bound(plain, timeouts)
    try:
        secured = tls.wrap_socket(plain, server_hostname=address.host)
    except BaseException:
        plain.close()
        raise
    # With TLS, a kernel timeout would look like an incomplete record, and the TLS layer would wait again.
    secured.settimeout(timeouts.slow)
    return secured


def _bound(plain: socket.socket, timeouts: RedisTimeouts) -> socket.socket:
    plain.settimeout(None)
    seconds, microseconds = divmod(round(timeouts.slow * 1_000_000), 1_000_000)
    limit = struct.pack("ll", seconds, microseconds)  # struct timeval
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return plain


def _greetings(address: RedisAddress) -> Iterator[tuple[str | int, ...]]:
    if address.username is not None or address.password is not None:
        yield ("AUTH", *([address.username] if address.username else []), address.password or "")
    if address.client_name is not None:
        yield ("CLIENT", "SETNAME", address.client_name)
    if address.db:
        yield ("SELECT", address.db)
