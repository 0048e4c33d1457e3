"""A connection pool for short commands to one Redis, with less overhead than a general-purpose client.

With Sentinel, each new connection leads to the primary that the sentinels name. `cluster_pool` is for a cluster.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kataven.ratelimit.latency import LatencyTracker, RedisTimeouts
from kataven.ratelimit.redis_socket import RedisSocket, Refusal, Stale, Unreachable, pack
from kataven.redis_clients import NoServer, RedisServers, says_not_primary, servers_of
from kataven.redis_clients.servers import must_verify_role
from kataven.redis_url import RedisAddress

Request = TypeVar("Request")
Reply = TypeVar("Reply")

SLOW_SECONDS, SLOW_REPLIES = 0.15, 3
"""Redis is too slow after a series of slow replies of at least this duration and number. Single ones are tolerated."""


_ROLE = pack("ROLE")


class Misdirected(Refusal):
    """The server is not the primary. A new connection may reach the primary."""


class SlotMoving(Refusal):
    """A cluster is moving the slot of the command's keys to another node. Other slots are not affected."""


class RedisPool:
    """Connections to one Redis, opened on demand and reused. Thread-safe.

    The constructor opens no connection, so it can run before a fork. The methods take a slot because the pool of a
    cluster needs it; this class ignores it.
    """

    says_not_primary = staticmethod(says_not_primary)

    def __init__(self, url: str | RedisServers, timeouts: RedisTimeouts | None = None) -> None:
        self._servers = servers_of(url) if isinstance(url, str) else url
        self._must_verify_role = must_verify_role(self._servers)
        self._address: RedisAddress | None = None
        """The server of the newest connection. Connections to another one are not used again."""
        self._timeouts = timeouts or RedisTimeouts()
        self._latency = LatencyTracker(self._timeouts)
        self._idle: deque[RedisSocket] = deque()
        self._closed = False
        self._slow_replies = 0
        self.slow_since: float | None = None
        """When (`time.monotonic`) the current series of slow replies started; None if the last reply was not slow."""

    @property
    def too_slow(self) -> bool:
        """Whether replies have been slow for longer than a single delay, or a delay of this process, explains."""
        since = self.slow_since
        return (
            since is not None
            and self._slow_replies >= SLOW_REPLIES
            and time.monotonic() - since >= SLOW_SECONDS + self._latency.own_delay
        )

    def call(self, command: bytes, slot: int = 0) -> Any:
        """The reply to a packed command. Raises Refusal or Unreachable.

        Waits at most about `RedisTimeouts.connect` plus `LatencyTracker.reply_timeout`.
        """
        return self._with_connection(RedisSocket.call, command)

    def call_all(self, commands: Sequence[bytes], slots: Sequence[int] = ()) -> list[Any]:
        """The replies to packed commands, in order, after one round trip. An error reply is returned as a Refusal.

        Raises Unreachable, or Misdirected if the server is not the primary.
        """
        if not commands:
            return []
        return self._with_connection(self._call_all, commands)

    def _call_all(self, connection: RedisSocket, commands: Sequence[bytes]) -> list[Any]:
        replies = connection.call_all(commands)
        for reply in replies:
            if isinstance(reply, Refusal) and self.says_not_primary(str(reply)):
                raise reply
        return replies

    def check_primary(self) -> None:
        """With Sentinel, ask whether another server is the primary. Called by heartbeats."""
        self._servers.check(self._timeouts.connect)

    def _with_connection(self, operation: Callable[[RedisSocket, Request], Reply], request: Request) -> Reply:
        if self._must_verify_role and self._address is not self._servers.primary:
            self._discard_idle()
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._call(self._connect(), operation, request)
        try:
            return self._call(connection, operation, request)
        except (Stale, Misdirected):
            # The idle connection was closed, for example by a restart of Redis, or leads to a server that was demoted.
            # Neither shows that Redis is unavailable now. If the command on the closed connection was executed, it is
            # executed twice: one request is counted too much, never too little. A refused command was not executed.
            self._discard_idle()
            return self._call(self._connect(), operation, request)

    def slots_to_probe(self) -> Sequence[int]:
        """One slot of each server, if a heartbeat must probe several servers."""
        return ()

    def send(self, command: bytes, slot: int = 0) -> None:
        """Send a packed command without waiting for the reply. Raises Unreachable or Refusal."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            connection.send(command)
        except BaseException:
            connection.discard()
            raise
        self._put_back(connection)

    def close(self) -> None:
        """Wait for pending replies and close all connections. Later calls raise Unreachable."""
        self._closed = True
        for connection in self._take_idle():
            connection.close()

    def abandon(self) -> None:
        """Close without reading pending replies. Connections that are in use are closed after use."""
        self._closed = True
        self._address = None
        self._discard_idle()

    def _call(
        self, connection: RedisSocket, operation: Callable[[RedisSocket, Request], Reply], request: Request
    ) -> Reply:
        try:
            reply = operation(connection, request)
        except Refusal as refusal:
            if self.says_not_primary(str(refusal)):
                connection.discard()
                raise Misdirected(str(refusal)) from None
            self._put_back(connection)
            raise
        except BaseException:
            connection.discard()
            if self._must_verify_role:  # the others lead to the same server, which may have been replaced
                self._discard_idle()
            raise
        if connection.slow:
            self._slow_replies += 1
            self.slow_since = self.slow_since or time.monotonic()
        else:
            self._slow_replies, self.slow_since = 0, None
        self._put_back(connection)
        return reply

    def _connect(self) -> RedisSocket:
        if self._closed:
            raise Unreachable("closed")
        try:
            opened = self._servers.connect(0, self._open, self._timeouts.connect, (Unreachable, Refusal))
        except NoServer as error:
            raise Unreachable(str(error)) from error
        if opened.address is not self._address:
            self._address = opened.address
            self._discard_idle()
        return opened

    def _open(self, address: RedisAddress) -> RedisSocket:
        opened = RedisSocket(address, self._timeouts, self._latency)
        if self._must_verify_role:
            try:
                role = opened.call(_ROLE)
                if role[0] != b"master":
                    raise Misdirected(f"the server is not the primary but a {role[0].decode()}")
            except BaseException:
                opened.discard()
                raise
        return opened

    def _put_back(self, connection: RedisSocket) -> None:
        if connection.address is not self._address:
            connection.discard()
            return
        self._idle.append(connection)
        if self._closed:
            self.close()

    def _discard_idle(self) -> None:
        for other in self._take_idle():
            other.discard()

    def _take_idle(self) -> Iterator[RedisSocket]:
        with contextlib.suppress(IndexError):
            while True:
                yield self._idle.pop()
