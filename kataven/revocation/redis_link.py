"""One connection to Redis for both events and lease renewals, which arrive in the order in which Redis sent them.

RESP3 allows commands on a subscribed connection. The protocol relies on this: a lease cannot be renewed over a healthy
connection while the connection for events is dead, and the reply to a renewal cannot overtake an event. An unexpected
epoch therefore always means a missed event, never a race.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from kataven.redis_clients import RedisServers, servers_of
from kataven.redis_clients.connections import NO_RETRY, connection_to, timeouts, verify_primary
from kataven.redis_clients.servers import must_verify_role
from kataven.redis_clients.slots import slot_of
from kataven.redis_url import RedisAddress, Topology
from kataven.revocation.scripts import publishes_to_shard


class RedisLink:
    """Subscribed to `channel` until `close`. For use by one thread. Methods raise redis.RedisError.

    In a cluster, the link leads to the node that has the slot of `channel`, and ends when the slot moves.
    """

    def __init__(self, redis: str | RedisServers, channel: str, timeout_seconds: float) -> None:
        self._servers = servers_of(redis) if isinstance(redis, str) else redis
        self._channel = channel
        self._timeout_seconds = timeout_seconds
        self._inbox: deque[str] = deque()
        self._connection: Any = self._servers.connect(slot_of(channel), self._open, timeout_seconds, (RedisError,))
        try:
            self._subscribe()
        except BaseException as error:
            self._servers.suspect(error)
            self.close()
            raise

    def call(self, *command: str | int | float) -> Any:
        """Send a command and return its reply. Events that arrive before the reply are buffered for `drain`."""
        try:
            self._connection.send_command(*command)
            while True:
                reply = self._connection.read_response(push_request=True)
                if not self._buffer_event(reply):
                    return reply
        except RedisError as error:
            self._servers.suspect(error)
            raise

    def check_primary(self) -> None:
        """With Sentinel, raise redis.ConnectionError if another server has become the primary.

        Until it is demoted, the old primary continues to reply. Its events would reach only the workers that are still
        connected to it.
        """
        self._servers.check(self._timeout_seconds / 2)
        if self._servers.primary is not None and self._connection.address is not self._servers.primary:
            raise RedisConnectionError("another server has become the primary")

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
        self._connection.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _buffer_event(self, reply: Any) -> bool:
        if not isinstance(reply, list) or len(reply) < 2 or reply[1] != self._channel:
            return False
        if reply[0] == "sunsubscribe":
            raise RedisConnectionError("the slot of the channel has moved to another node of the cluster")
        if reply[0] not in {"message", "smessage"}:
            return False
        self._inbox.append(reply[2])
        return True

    def _open(self, address: RedisAddress) -> Any:
        # Any, because redis-py does not type connections.
        connection: Any = connection_to(
            address, **timeouts(self._timeout_seconds), retry=NO_RETRY, decode_responses=True, protocol=3
        )
        connection.connect()
        connection.address = address
        if must_verify_role(self._servers):
            verify_primary(connection)
        return connection

    def _subscribe(self) -> None:
        command = "SUBSCRIBE"
        if self._servers.deployment.topology is Topology.CLUSTER:
            self._connection.send_command("INFO", "server")
            command = "SSUBSCRIBE" if publishes_to_shard(self._connection.read_response()) else command
        self._connection.send_command(command, self._channel)
        self._connection.read_response(push_request=True)
