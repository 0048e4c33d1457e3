"""State of visitors in Redis. Each step is one script. If Redis is unavailable, visitors are rejected."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redis.exceptions import RedisError

from kataven.redis_clients import SilenceGate, redis_client, servers_of
from kataven.redis_clients.script import RedisScript
from kataven.redis_url import Topology
from kataven.widget.errors import StoreUnavailable

TIMEOUT_SECONDS = 0.5
"""Scripts take about a millisecond. A longer wait would block a request thread."""

Clock = Callable[[], float]
"""Seconds since the epoch. Replaces the clock of Redis in tests. In production the clocks of hosts differ."""


class WidgetStore:
    """A connection to Redis that is opened on first use, so the object can be created before a fork."""

    def __init__(self, redis_url: str, *, namespace: str = "kataven", clock: Clock | None = None) -> None:
        # No retries: an interrupted script may have run, and running it twice would use a token twice.
        servers = servers_of(redis_url)
        self._client = redis_client(servers, timeout_seconds=TIMEOUT_SECONDS, decode_responses=True, gate=SilenceGate())
        # A new session is counted for its widget key, its account and the installation, in one step. In a cluster, that
        # requires one slot for all of them. Elsewhere, keys keep their names, so an upgrade ends no session.
        in_one_slot = servers.deployment.topology is Topology.CLUSTER
        self._prefix = f"{{{namespace}:widget}}" if in_one_slot else f"{namespace}:widget"
        self._clock = clock

    def key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{name}"

    def now(self) -> str:
        """The time argument of scripts; '' selects the clock of Redis."""
        return "" if self._clock is None else str(round(self._clock() * 1000))

    def run(self, script: RedisScript, keys: Sequence[str], arguments: Sequence[str | int]) -> list[str | None]:
        """The return value of the script. Raises StoreUnavailable."""
        try:
            found: list[str | None] = script(self._client.execute_command, keys, arguments)
            return found
        except RedisError as error:
            raise StoreUnavailable from error

    def close(self) -> None:
        self._client.close()


def store_script(name: str) -> RedisScript:
    """A script in `lua/`."""
    return RedisScript.read(__package__, "lua/common.lua", f"lua/{name}.lua")
