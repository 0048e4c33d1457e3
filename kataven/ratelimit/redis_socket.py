"""One connection to Redis that never makes anybody wait for long.

It speaks RESP2 over a plain socket with hiredis, and waits in the kernel (`SO_RCVTIMEO`): a thread that waits for Redis
holds nothing, and waiting for the interpreter's own lock is never mistaken for a slow Redis.
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
from kataven.redis_url import RedisAddress, read_redis_url

READ_BYTES = 4096
TIMER_SECONDS = 0.01
"""How late the kernel's own timer may be: it counts in ticks of up to this length."""
_NOTHING = object()


class Unreachable(Exception):
    """Redis can't be reached, closed the connection, or let us wait for too long."""


class Stale(Unreachable):
    """The connection is no more; a new one may well work."""


class Refusal(Exception):
    """Redis answered with an error, in its own words: `NOSCRIPT …`, `LOADING …`."""


def pack(*command: str | bytes | int) -> bytes:
    """A command as it goes over the wire."""
    return hiredis.pack_command(command)  # type: ignore[arg-type, no-any-return]  # its stub says: one argument


class RedisSocket:
    """One socket, for one thread at a time. After Unreachable there is nothing to do but close it."""

    def __init__(self, url: str, timeouts: RedisTimeouts, latency: LatencyTracker | None = None) -> None:
        """Connect, authenticate and select as `url` says. Raises Unreachable or Refusal.

        `pace` is what is known of the way to this Redis; connections to the same one share it.
        """
        address = read_redis_url(url)
        self._timeouts = timeouts
        self._latency = latency or LatencyTracker(timeouts)
        self._reader = hiredis.Reader(protocolError=Unreachable, notEnoughData=_NOTHING)
        self._unread = 0
        self._waited = 0.0
        self.slow = False
        """Whether the last answer was a slow one."""
        try:
            self._socket = _connect(address, timeouts)
        except OSError as error:
            raise Unreachable(f"can't connect: {error}") from error
        try:
            for greeting in _greetings(address):
                self.call(pack(*greeting))
        except BaseException:
            self.abandon()
            raise

    def call(self, command: bytes) -> Any:
        """Send a packed command and return its answer. Raises Refusal, Stale or Unreachable."""
        began = time.perf_counter()
        self.send(command)
        self._waited, self.slow = 0.0, False
        while self._unread > 1:
            self._read()
        answer = self._read()
        self._latency.took(time.perf_counter() - began)
        if self._waited:
            self.slow = self._waited >= self._latency.slow_after
        if isinstance(answer, hiredis.ReplyError):
            raise Refusal(str(answer))
        return answer

    def call_all(self, commands: Sequence[bytes]) -> list[Any]:
        """Send packed commands at once and return their answers, in order; a Refusal in place of one that was refused.

        All answers together may take as long as one. Raises Stale or Unreachable. Not for more commands than fit into
        a socket's buffers: nothing is read before everything is sent.
        """
        self.send(b"".join(commands), len(commands))
        self._waited, self.slow = 0.0, False
        while self._unread > len(commands):
            self._read()
        answers = [self._read() for _ in commands]
        if self._waited:
            self.slow = self._waited >= self._latency.slow_after
        return [Refusal(str(one)) if isinstance(one, hiredis.ReplyError) else one for one in answers]

    def send(self, command: bytes, answers: int = 1) -> None:
        """Send it and don't wait: what Redis says to it is thrown away later. Raises Stale or Unreachable."""
        try:
            self._socket.sendall(command)
        except (TimeoutError, BlockingIOError) as error:
            raise Unreachable("Redis does not take what is sent") from error
        except OSError as error:
            raise Stale(f"connection lost: {error}") from error
        self._unread += answers

    def close(self) -> None:
        """Close it once everything that was sent is known to be done, or Redis is out of reach.

        Closing a socket with unread answers makes the kernel reset the connection, and a reset overtakes what was sent.
        """
        with contextlib.suppress(Unreachable):
            self._waited = 0.0
            while self._unread:
                self._read(self._timeouts.close)
        self._socket.close()

    def abandon(self) -> None:
        """Close it as it is."""
        self._socket.close()

    def _read(self, at_most: float | None = None) -> Any:
        """The next answer, waited for as long as the pace says, or `at_most` so many seconds."""
        while (answer := self._reader.gets()) is _NOTHING:
            asked = time.perf_counter()
            try:
                received = self._socket.recv(READ_BYTES)
            except (TimeoutError, BlockingIOError):
                # Redis had this long, and no longer: what comes on top is the time that this thread had no core, or
                # not the interpreter, and says how late others on this machine may be.
                elapsed = time.perf_counter() - asked
                late = max(0.0, elapsed - self._timeouts.slow - TIMER_SECONDS)
                self._waited += elapsed - late
                self._latency.overslept(late)
                timeouts = self._latency.answer_within if at_most is None else at_most
                if self._waited >= timeouts:
                    raise Unreachable(f"no answer within {timeouts:.2g} s") from None
                continue
            except OSError as error:
                raise Stale(f"connection lost: {error}") from error
            if not received:
                raise Stale("connection closed by Redis")
            self._reader.feed(received)
        self._unread -= 1
        return answer


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
    # Over TLS the kernel's timeout would be taken for a record that is not complete, and waited for again.
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
