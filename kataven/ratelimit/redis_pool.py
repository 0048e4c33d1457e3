"""A few connections to one Redis, for calls so short that a general client would cost more than Redis itself does."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kataven.ratelimit.latency import LatencyTracker, RedisTimeouts
from kataven.ratelimit.redis_socket import RedisSocket, Refusal, Stale, Unreachable
from kataven.redis_clients import says_not_primary

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

SLOW_SECONDS, SLOW_ANSWERS = 0.15, 3
"""Redis is slow when every answer has been for this long, and at least so many. One hiccup is waited for."""


class Misdirected(Refusal):
    """The server at the other end is not the one to ask; a new connection may lead to the one that is."""


class RedisPool:
    """Connections to one Redis, opened when needed and used again. Any number of threads may call at once.

    Building one opens nothing, so it may happen before a fork.
    """

    def __init__(self, url: str, timeouts: RedisTimeouts | None = None) -> None:
        self._url = url
        self._timeouts = timeouts or RedisTimeouts()
        self._latency = LatencyTracker(self._timeouts)
        self._idle: deque[RedisSocket] = deque()
        self._closed = False
        self._slow_answers = 0
        self.slow_since: float | None = None
        """Since when (`time.monotonic`) every answer has been a slow one; None if the last one was not."""

    @property
    def too_slow(self) -> bool:
        """Whether every answer has been slow for so long that it is no hiccup, nor this process's own delay."""
        since = self.slow_since
        return (
            since is not None
            and self._slow_answers >= SLOW_ANSWERS
            and time.monotonic() - since >= SLOW_SECONDS + self._latency.excuse
        )

    def call(self, command: bytes) -> Any:
        """The answer to a packed command. Raises Refusal, or Unreachable.

        It waits for about `Patience.connect` and what `Pace.answer_within` says.
        """
        return self._ask(RedisSocket.call, command)

    def call_all(self, commands: Sequence[bytes]) -> list[Any]:
        """The answers to packed commands, in order, after one round trip; a Refusal in place of one that was refused.

        Raises Unreachable.
        """
        if not commands:
            return []
        return self._ask(RedisSocket.call_all, commands)

    def _ask(self, ask: Callable[[RedisSocket, Asked], Answer], asked: Asked) -> Answer:
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._call(self._connect(), ask, asked)
        try:
            return self._call(connection, ask, asked)
        except (Stale, Misdirected):
            # Closed by a restart of Redis or a timeout on the way, perhaps long ago, or kept by a server that has been
            # demoted since: that says nothing about now. If the command of a closed connection was in fact done, it
            # is done twice: one request is counted more, never one less. One that was refused was not done.
            for other in self._take_idle():
                other.abandon()
            return self._call(self._connect(), ask, asked)

    def send(self, command: bytes) -> None:
        """Send a packed command and don't wait for it. Raises Unreachable or Refusal."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            connection.send(command)
        except BaseException:
            connection.abandon()
            raise
        self._put_back(connection)

    def close(self) -> None:
        """Wait until what was sent is done, and close everything; later calls raise Unreachable."""
        self._closed = True
        for connection in self._take_idle():
            connection.close()

    def _call(self, connection: RedisSocket, ask: Callable[[RedisSocket, Asked], Answer], asked: Asked) -> Answer:
        try:
            answer = ask(connection, asked)
        except Refusal as refusal:
            if says_not_primary(str(refusal)):
                connection.abandon()
                raise Misdirected(str(refusal)) from None
            self._put_back(connection)
            raise
        except BaseException:
            connection.abandon()
            raise
        if connection.slow:
            self._slow_answers += 1
            self.slow_since = self.slow_since or time.monotonic()
        else:
            self._slow_answers, self.slow_since = 0, None
        self._put_back(connection)
        return answer

    def _connect(self) -> RedisSocket:
        if self._closed:
            raise Unreachable("closed")
        return RedisSocket(self._url, self._timeouts, self._latency)

    def _put_back(self, connection: RedisSocket) -> None:
        self._idle.append(connection)
        if self._closed:
            self.close()

    def _take_idle(self) -> Iterator[RedisSocket]:
        with contextlib.suppress(IndexError):
            while True:
                yield self._idle.pop()
