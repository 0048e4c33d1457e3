"""A redis-py client for a Redis Cluster, over the same slot map and connections as the project's other clients.

redis-py's RedisCluster connects in its constructor, sleeps in the calling thread while a cluster is down, reads the
slot map from any node even if that node was partitioned, and has no option for a TLS context. This class implements the
part that the project needs: commands with one key, scripts whose keys are in one slot, and `DEL`. It supports no
pipelines and no subscriptions.
"""

from __future__ import annotations

import threading
from typing import Any, NoReturn

from redis import ConnectionPool
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from kataven.redis_clients.cluster_nodes import ClusterNodes
from kataven.redis_clients.connections import NO_RETRY, pool_to, timeouts
from kataven.redis_clients.gated_client import GatedClient
from kataven.redis_clients.not_primary import Redirection, is_not_primary
from kataven.redis_clients.slots import slot_of, slot_of_command
from kataven.redis_url import RedisAddress

MAX_REDIRECTIONS = 5


class _NotSent(RedisConnectionError):
    """No connection could be opened, so the command was not sent."""


class ClusterClient(GatedClient):
    """Sends each command to the node of its key. `resend` as in `redis_client`."""

    def __init__(self, nodes: ClusterNodes, *, timeout_seconds: float, decode_responses: bool, resend: bool) -> None:
        self._nodes = nodes
        self._timeout_seconds = timeout_seconds
        self._resend = resend
        self._options: dict[str, Any] = {
            **timeouts(timeout_seconds),
            "decode_responses": decode_responses,
            "retry": NO_RETRY,
        }
        self._pools: dict[RedisAddress, ConnectionPool] = {}
        self._pools_lock = threading.Lock()
        super().__init__(connection_pool=pool_to(nodes.deployment.nodes[0], **self._options))

    def send_command(self, *args: Any, **options: Any) -> Any:
        name = str(args[0]).upper()
        if name in {"DEL", "UNLINK"} and len(args) > 2:  # the keys may be on different nodes
            return sum(self.send_command(name, key, **options) for key in args[1:])
        if name == "SCRIPT LOAD":  # the script may be called with keys on any node
            return [self._execute(slot, args, options) for slot in self._one_slot_per_node()][-1]
        slot = slot_of_command(args)
        return self._execute(slot_of("any") if slot is None else slot, args, options)

    def close_idle(self) -> None:
        """Close the connections that are not in use, and look up the nodes again."""
        with self._pools_lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.disconnect(inuse_connections=False)
        self._nodes.suspect()

    def close(self) -> None:
        with self._pools_lock:
            pools = list(self._pools.values())
        for pool in pools:
            pool.disconnect()
        super().close()

    def pipeline(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("a pipeline has keys on several nodes")

    def pubsub(self, **_: Any) -> NoReturn:
        raise NotImplementedError("RedisLink subscribes")

    def _one_slot_per_node(self) -> list[int]:
        self._nodes.node_of(0, self._timeout_seconds)  # reads the map if necessary
        return list(self._nodes.primaries().values())

    def _execute(self, slot: int, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        try:
            return self._follow(slot, args, options)
        except RedisError as error:
            if not (_is_lost(error) or is_not_primary(error) or isinstance(error, ClusterDownError)):
                raise
            self._nodes.suspect()
            if _is_lost(error) and not isinstance(error, _NotSent) and not self._resend:
                raise  # the command may have run
            self._nodes.refresh(self._timeout_seconds)
        return self._follow(slot, args, options)

    def _follow(self, slot: int, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Send a command to the node of a slot, and to the nodes that it is redirected to."""
        node, asking = self._nodes.node_of(slot, self._timeout_seconds), False
        for _ in range(MAX_REDIRECTIONS):
            try:
                return self._send(node, args, options, asking)
            except AskError as error:  # also MovedError
                asking = not isinstance(error, MovedError)
                node = self._nodes.redirected(Redirection(asking, slot, error.host, error.port), node)
        return self._send(node, args, options, asking)

    def _send(self, node: RedisAddress, args: tuple[Any, ...], options: dict[str, Any], asking: bool) -> Any:
        pool = self._pool_of(node)
        try:
            connection: Any = pool.get_connection()
        except (RedisConnectionError, RedisTimeout) as error:
            raise _NotSent(str(error)) from error
        try:
            if asking:
                connection.send_command("ASKING")
                connection.read_response()
            connection.send_command(*args, **options)
            return self.parse_response(  # type: ignore[no-untyped-call]
                connection, args[0], **options
            )
        except BaseException as error:
            if not isinstance(error, ResponseError) or is_not_primary(error):
                connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _pool_of(self, node: RedisAddress) -> ConnectionPool:
        pool = self._pools.get(node)
        if pool is None:
            with self._pools_lock:
                pool = self._pools.setdefault(node, pool_to(node, **self._options))
        return pool


def _is_lost(error: RedisError) -> bool:
    """Whether the connection was lost or could not be opened. `BusyLoadingError` is an error reply."""
    return isinstance(error, (RedisConnectionError, RedisTimeout)) and not is_not_primary(error)
