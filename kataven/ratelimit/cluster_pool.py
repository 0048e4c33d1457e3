"""The connection pool for a Redis Cluster: one pool per node, and the slot of a command's keys selects the node."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kataven.ratelimit.latency import RedisTimeouts
from kataven.ratelimit.redis_pool import Misdirected, RedisPool, SlotMoving
from kataven.ratelimit.redis_socket import Refusal, Unreachable, pack
from kataven.redis_clients import NoServer, says_not_primary, servers_of
from kataven.redis_clients.cluster_nodes import ClusterNodes
from kataven.redis_clients.not_primary import read_redirection
from kataven.redis_clients.servers import OneServer
from kataven.redis_url import RedisAddress, RedisDeployment, Topology

Reply = TypeVar("Reply")

MAX_REDIRECTIONS = 3
_ASKING = pack("ASKING")


def pool_at(url: str, timeouts: RedisTimeouts | None = None) -> RedisPool:
    """The pool for a URL: of one Redis, or of a cluster. Raises ValueError as `read_redis_url` does."""
    servers = servers_of(url)
    return ClusterPool(servers, timeouts) if isinstance(servers, ClusterNodes) else RedisPool(servers, timeouts)


class NodePool(RedisPool):
    """Connections to one node. A `MOVED` reply is left to the caller: a new connection would receive it again."""

    @staticmethod
    def says_not_primary(message: str) -> bool:
        return not message.startswith("MOVED") and says_not_primary(message)


class ClusterPool(RedisPool):
    """As RedisPool, for a cluster. A command needs one round trip unless its slot has just moved.

    The map of slots is read again by the first call that is at least a second later than the last time. After a node
    has failed, that is a heartbeat, because requests are then decided in memory.
    """

    def __init__(self, nodes: ClusterNodes, timeouts: RedisTimeouts | None = None) -> None:
        super().__init__(nodes, timeouts)
        self._nodes = nodes
        self._pools: dict[RedisAddress, NodePool] = {}
        self._pools_lock = threading.Lock()

    @property
    def too_slow(self) -> bool:
        """Whether a node is too slow."""
        return any(pool.too_slow for pool in list(self._pools.values()))

    def call(self, command: bytes, slot: int = 0) -> Any:
        node, asking = self._node_of(slot), False
        for _ in range(MAX_REDIRECTIONS):
            try:
                return self._call_at(node, command, asking)
            except Refusal as refusal:
                node, asking = self._after(refusal, node)
        raise SlotMoving(f"redirected more than {MAX_REDIRECTIONS} times")

    def call_all(self, commands: Sequence[bytes], slots: Sequence[int] = ()) -> list[Any]:
        """The replies in order, after one round trip for each node. A redirected command is sent again separately."""
        by_node: defaultdict[RedisAddress, list[int]] = defaultdict(list)
        for position, slot in enumerate(slots):
            by_node[self._node_of(slot)].append(position)
        replies: list[Any] = [None] * len(commands)
        for node, positions in by_node.items():
            found = self._at(node, lambda pool, chosen: pool.call_all(chosen), [commands[one] for one in positions])
            for position, reply in zip(positions, found, strict=True):
                replies[position] = self._followed(reply, node, commands[position], slots[position])
        return replies

    def slots_to_probe(self) -> Sequence[int]:
        """One slot of each primary: a worker without a connection to one of them can't resume using Redis."""
        self._node_of(0)  # reads the map if necessary
        return list(self._nodes.primaries().values())

    def send(self, command: bytes, slot: int = 0) -> None:
        self._at(self._node_of(slot), NodePool.send, command)

    def close(self) -> None:
        for pool in list(self._pools.values()):
            pool.close()

    def _call_at(self, node: RedisAddress, command: bytes, asking: bool) -> Any:
        if not asking:
            return self._at(node, NodePool.call, command)
        reply = self._at(node, NodePool.call_all, [_ASKING, command])[1]
        if isinstance(reply, Refusal):
            raise reply
        return reply

    def _followed(self, reply: Any, node: RedisAddress, command: bytes, slot: int) -> Any:
        if not isinstance(reply, Refusal):
            return reply
        try:
            node, asking = self._after(reply, node)
            return self._call_at(node, command, asking)
        except Refusal as refusal:
            return refusal

    def _after(self, refusal: Refusal, node: RedisAddress) -> tuple[RedisAddress, bool]:
        """Where to send the command after this error. Raises the error if it is not a redirection."""
        message = str(refusal)
        redirection = read_redirection(message)
        if redirection is not None:
            return self._nodes.redirected(redirection, node), redirection.asking
        if message.startswith("TRYAGAIN"):
            raise SlotMoving(message) from None
        if message.startswith("CLUSTERDOWN"):
            self._nodes.suspect()
        raise refusal

    def _at(self, node: RedisAddress, operation: Callable[[NodePool, Any], Reply], request: Any) -> Reply:
        pool = self._pools.get(node)
        if pool is None:
            with self._pools_lock:
                servers = OneServer(RedisDeployment(Topology.PLAIN, node))
                pool = self._pools.setdefault(node, NodePool(servers, self._timeouts))
        try:
            return operation(pool, request)
        except Unreachable:
            self._nodes.suspect()
            self._forget(node)
            raise
        except Misdirected:
            self._nodes.suspect()
            raise
        finally:
            self.slow_since = self._first_slow()

    def _node_of(self, slot: int) -> RedisAddress:
        try:
            return self._nodes.node_of(slot, self._timeouts.connect)
        except NoServer as error:
            raise Unreachable(str(error)) from error

    def _forget(self, node: RedisAddress) -> None:
        """Remove the pool of a node that failed: its other connections lead to the same node."""
        with self._pools_lock:
            pool = self._pools.pop(node, None)
        if pool is not None:
            pool.abandon()

    def _first_slow(self) -> float | None:
        return min((pool.slow_since for pool in list(self._pools.values()) if pool.slow_since), default=None)
