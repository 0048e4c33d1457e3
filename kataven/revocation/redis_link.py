"""One connection to Redis that carries both the events and the renewals of the lease, in the order Redis spoke.

RESP3 allows commands on a connection that is subscribed. That is worth more than a connection saved: a lease can't be
renewed over a healthy connection while the one for events is dead, and a renewal's answer can't overtake an event, so
that an epoch that does not fit is a gap and never a race.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Self

from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from kataven.redis_clients import redis_pool


class RedisLink:
    """Subscribed to `channel` from its construction to `close`. Used by one thread. Methods raise redis.RedisError."""

    def __init__(self, redis_url: str, channel: str, timeout_seconds: float) -> None:
        self._channel = channel
        self._inbox: deque[str] = deque()
        self._pool = _pool(redis_url, timeout_seconds)
        self._connection = self._pool.get_connection()
        try:
            self._connection.send_command("SUBSCRIBE", channel)
            self._connection.read_response(push_request=True)
        except BaseException:
            self.close()
            raise

    def call(self, *command: str | int | float) -> Any:
        """Send a command and return its reply. Events that come before it are put aside for `drain`."""
        self._connection.send_command(*command)
        while True:
            reply = self._connection.read_response(push_request=True)
            if not self._set_aside(reply):
                return reply

    def drain(self) -> list[str]:
        """The messages put aside so far."""
        messages = list(self._inbox)
        self._inbox.clear()
        return messages

    def wait(self, seconds: float) -> list[str]:
        """The messages put aside; if there are none, the next one, or nothing after `seconds`."""
        if not self._inbox:
            try:
                self._set_aside(
                    self._connection.read_response(push_request=True, timeout=seconds, disconnect_on_error=False)
                )
            except RedisTimeout:
                return []
        return self.drain()

    def close(self) -> None:
        self._pool.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _set_aside(self, reply: Any) -> bool:
        if not (isinstance(reply, list) and reply[:2] == ["message", self._channel]):
            return False
        self._inbox.append(reply[2])
        return True


def _pool(redis_url: str, timeout_seconds: float) -> Any:
    """A pool, for one connection: it can connect in every way. Any, because redis-py leaves connections untyped."""
    retry = Retry(NoBackoff(), 0)
    return redis_pool(redis_url, timeout_seconds=timeout_seconds, retry=retry, decode_responses=True, protocol=3)
