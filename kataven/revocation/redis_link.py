"""One connection to Redis for both events and lease renewals, which arrive in the order in which Redis sent them.

RESP3 allows commands on a subscribed connection. The protocol relies on this: a lease cannot be renewed over a healthy
connection while the connection for events is dead, and the reply to a renewal cannot overtake an event. An unexpected
epoch therefore always means a missed event, never a race.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Self

from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from kataven.redis_clients import redis_pool


class RedisLink:
    """Subscribed to `channel` until `close`. For use by one thread. Methods raise redis.RedisError."""

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
        """Send a command and return its reply. Events that arrive before the reply are buffered for `drain`."""
        self._connection.send_command(*command)
        while True:
            reply = self._connection.read_response(push_request=True)
            if not self._buffer_event(reply):
                return reply

    def drain(self) -> list[str]:
        """Return and remove the buffered events."""
        messages = list(self._inbox)
        self._inbox.clear()
        return messages

    def wait(self, seconds: float) -> list[str]:
        """Return the buffered events; if there are none, wait up to `seconds` for one."""
        if not self._inbox:
            try:
                self._buffer_event(
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

    def _buffer_event(self, reply: Any) -> bool:
        if not (isinstance(reply, list) and reply[:2] == ["message", self._channel]):
            return False
        self._inbox.append(reply[2])
        return True


def _pool(redis_url: str, timeout_seconds: float) -> Any:
    """A pool for one connection, because a pool supports every URL. Any, because redis-py does not type connections."""
    retry = Retry(NoBackoff(), 0)
    return redis_pool(redis_url, timeout_seconds=timeout_seconds, retry=retry, decode_responses=True, protocol=3)
