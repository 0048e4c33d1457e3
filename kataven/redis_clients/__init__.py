"""Creates Redis clients for a Redis URL. Of the project, this package imports only the URL parser.

    servers         which server: the one in the URL, the primary that sentinels name, or the node of a cluster's slot
    sentinels, cluster_nodes   the lookup for Sentinel and for a cluster; used by every client, also by the limiter's
    connections     redis-py connections and pools to such a server
    cluster_client  a redis-py client that sends each command to the node of its key
    silence_gate    bounds how many threads wait for a Redis that does not respond
    script          a Lua script, called by its digest

A pooled connection can lead to a server that is no longer the primary: after a planned failover, the old primary keeps
its clients and returns `READONLY` errors. redis-py treats this as an ordinary error and returns the connection to its
pool, where the next call uses it again. The clients of this package close the connection and send the command once more
on a new one. This is safe for every command, because the server reported that it did not execute the command.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import cast

from redis import Redis

from kataven.redis_clients.cluster_client import ClusterClient
from kataven.redis_clients.cluster_nodes import ClusterNodes
from kataven.redis_clients.connections import pool_of, retry_on_new_connection, timeouts
from kataven.redis_clients.gated_client import GatedClient
from kataven.redis_clients.not_primary import NOT_PRIMARY, is_not_primary, says_not_primary
from kataven.redis_clients.sentinels import Sentinels
from kataven.redis_clients.servers import NoServer, OneServer, RedisServers
from kataven.redis_clients.silence_gate import SilenceGate
from kataven.redis_url import Topology, read_redis_url

__all__ = [
    "NOT_PRIMARY",
    "NoServer",
    "RedisServers",
    "SilenceGate",
    "close_idle_connections",
    "is_not_primary",
    "redis_client",
    "retry_on_new_connection",
    "says_not_primary",
    "servers_of",
]


@lru_cache(maxsize=8)
def servers_of(url: str) -> RedisServers:
    """The servers of a URL, each looked up when it is needed. Raises ValueError as `read_redis_url` does.

    All clients of a process share the object, so what one of them learns is used by the others.
    """
    deployment = read_redis_url(url)
    if deployment.topology is Topology.SENTINEL:
        return Sentinels(deployment)
    return ClusterNodes(deployment) if deployment.topology is Topology.CLUSTER else OneServer(deployment)


def redis_client(
    url: str | RedisServers,
    *,
    timeout_seconds: float,
    decode_responses: bool = False,
    resend: bool = False,
    gate: SilenceGate | None = None,
) -> Redis:
    """A client with a pool. It connects on first use, so it can be created before a fork.

    `timeout_seconds` applies to connecting and to each reply. `resend`: whether a command is sent again if the
    connection is lost before its reply; the command may then run twice. `gate`: for clients that many request threads
    use, so that they don't all wait for a Redis that does not respond. Raises ValueError as `read_redis_url` does.
    """
    servers = servers_of(url) if isinstance(url, str) else url
    client: GatedClient
    if isinstance(servers, ClusterNodes):
        client = ClusterClient(
            servers, timeout_seconds=timeout_seconds, decode_responses=decode_responses, resend=resend
        )
    else:
        pool = pool_of(
            servers,
            **timeouts(timeout_seconds),
            decode_responses=decode_responses,
            retry=retry_on_new_connection(resend=resend),
        )
        client = cast("GatedClient", GatedClient.from_pool(pool))
    if gate is not None:
        client.gate, gate.timeout_seconds = gate, timeout_seconds
        gate.on_silence = partial(close_idle_connections, client)
    return client


def close_idle_connections(client: Redis) -> None:
    """Close the connections that are not in use: they may lead to a server that is no longer the primary."""
    if isinstance(client, ClusterClient):
        client.close_idle()
    else:
        client.connection_pool.disconnect(inuse_connections=False)
