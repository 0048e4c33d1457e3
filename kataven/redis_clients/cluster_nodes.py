"""Which node of a Redis Cluster has a slot.

The map of slots is read from any node that is part of a working majority. A node that was paused or partitioned returns
the map from before; its configuration epoch is lower than the highest one that was seen, so its map is not used.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from redis.exceptions import MovedError, RedisError

from kataven.redis_clients.connections import ask
from kataven.redis_clients.not_primary import Redirection
from kataven.redis_clients.servers import Failures, NoServer, Opened
from kataven.redis_clients.slots import SLOTS
from kataven.redis_url import RedisAddress, RedisDeployment

REFRESH_SECONDS: Final = 1.0
"""Between two reads of the map because of a redirection or failure; each redirection corrects its slot in any case."""

_random = random.SystemRandom()


class ClusterNodes:
    """The map of slots. It is read on first use, and again after a failure or a redirection."""

    primary = None

    def __init__(self, deployment: RedisDeployment) -> None:
        self.deployment = deployment
        self._map: list[RedisAddress | None] = [None] * SLOTS
        self._known: tuple[RedisAddress, ...] = ()
        """Every node of the map, including replicas."""
        self._epoch = -1
        self._stale = True
        self._read_at = -REFRESH_SECONDS
        self._reads = 0
        self._lock = threading.Lock()

    def node_of(self, slot: int, timeout_seconds: float) -> RedisAddress:
        """The primary of a slot. Reads the map if it is not known or may be out of date. Raises NoServer."""
        if self._stale and (not self._known or time.monotonic() - self._read_at >= REFRESH_SECONDS):
            self._refresh(self._reads, timeout_seconds)
        node = self._map[slot]
        if node is None:
            raise NoServer("cluster: no node has the slot", str(slot))
        return node

    def connect(
        self, slot: int, open_at: Callable[[RedisAddress], Opened], timeout_seconds: float, failures: Failures
    ) -> Opened:
        """What `open_at` returns for the primary of the slot, also if the slot has just moved to another node."""
        reads, node = self._reads, self.node_of(slot, timeout_seconds)
        try:
            return open_at(node)
        except failures:
            self._stale = True
            self._refresh(reads, timeout_seconds)
            if self._map[slot] == node:
                raise
        return open_at(self.node_of(slot, timeout_seconds))

    def check(self, timeout_seconds: float) -> None:
        """A node that was demoted redirects commands."""

    def suspect(self, error: BaseException | None = None) -> None:
        """The map may be out of date. It is read again, at most once per `REFRESH_SECONDS`."""
        self._stale = True
        if isinstance(error, MovedError) and error.host:
            self._map[error.slot_id] = self._interned(error.host, error.port)

    def refresh(self, timeout_seconds: float) -> None:
        """Read the map again. Raises NoServer."""
        self._refresh(self._reads, timeout_seconds)

    def redirected(self, redirection: Redirection, replied: RedisAddress) -> RedisAddress:
        """The node that a redirection names, which is recorded as the node of the slot unless it is for one command."""
        node = self._interned(redirection.host or replied.host, redirection.port)
        if not redirection.asking:
            self._map[redirection.slot] = node
            self._stale = True
        return node

    def primaries(self) -> dict[RedisAddress, int]:
        """Each primary of the map, with one of its slots."""
        found: dict[RedisAddress, int] = {}
        for slot, node in enumerate(self._map):
            if node is not None and node not in found:
                found[node] = slot
        return found

    def _refresh(self, reads: int, timeout_seconds: float) -> None:
        with self._lock:
            if self._reads != reads:
                return  # another thread has read the map in the meantime
            give_up_at = time.monotonic() + 2 * timeout_seconds
            problems: list[str] = []
            for node in self._to_ask():
                if time.monotonic() >= give_up_at:
                    problems.append("timed out")
                    break
                try:
                    info, slots = self._ask(node, timeout_seconds)
                except RedisError:
                    problems.append(f"{node.host}:{node.port} can't be reached, or is not part of a cluster")
                    continue
                epoch = int(info.get("cluster_current_epoch", "0"))
                if info.get("cluster_state") != "ok" or epoch < self._epoch:
                    problems.append(f"{node.host}:{node.port} is not part of a working majority")
                    continue
                self._apply(slots, node, epoch)
                return
            self._read_at = time.monotonic()
            raise NoServer("cluster: no node with a working majority is reachable", "; ".join(problems))

    def _to_ask(self) -> Iterable[RedisAddress]:
        known = list(self._known)
        _random.shuffle(known)
        return dict.fromkeys([*known, *self.deployment.nodes])

    def _ask(self, node: RedisAddress, timeout_seconds: float) -> tuple[dict[str, str], Any]:
        info, slots = ask(node, timeout_seconds, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
        return dict(line.split(":", 1) for line in str(info).splitlines() if ":" in line), slots

    def _apply(self, slots: Any, replied: RedisAddress, epoch: int) -> None:
        found: list[RedisAddress | None] = [None] * SLOTS
        known: dict[RedisAddress, None] = {}
        for first, last, *nodes in slots:
            addresses = [self._interned(str(node[0] or "") or replied.host, int(node[1])) for node in nodes]
            known |= dict.fromkeys(addresses)
            found[first : last + 1] = [addresses[0]] * (last + 1 - first)
        self._map, self._known, self._epoch, self._stale = found, tuple(known), epoch, False
        self._read_at = time.monotonic()
        self._reads += 1

    def _interned(self, host: str, port: int) -> RedisAddress:
        address = self.deployment.at(host, port)
        return next((node for node in self._known if node == address), address)
