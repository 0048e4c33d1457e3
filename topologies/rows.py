"""The rows: each is a topology with one failure."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import make_url

from kataven.dev.embedded.postgres import EmbeddedPostgres
from topologies.deployment import Deployment, Urls
from topologies.engines.postgres_nodes import PatroniCluster, PgBouncer, PostgresServer
from topologies.engines.redis_nodes import PlainRedis, RedisCluster, SentinelRedis
from topologies.load import Load
from topologies.network import CONNECTION_RELAY, LINK_VARIABLE, open_link, relayed
from topologies.run_row import Row, Timeline, Topology
from topologies.two_hosts import TwoHosts, examine


def embedded_postgres(folder: Path, stack: ExitStack) -> str:
    """The URL of the system database on a PostgreSQL that no failure affects."""
    data = folder / "postgres"
    data.mkdir()
    if os.geteuid() == 0:
        data.chmod(0o711)
    return stack.enter_context(EmbeddedPostgres(data, fsync=False)).url("kataven_system")


def one_host(database: str, redis: str, engine: object) -> Topology:
    return Topology([Urls(database, redis)], database, engine)


def _plain_redis(folder: Path, stack: ExitStack, *, persistent: bool) -> Topology:
    redis = stack.enter_context(PlainRedis(folder, persistent=persistent))
    return one_host(embedded_postgres(folder, stack), redis.url, redis)


def _kill_plain_redis(redis: PlainRedis, timeline: Timeline) -> None:
    redis.kill()
    timeline.note("Redis killed")
    timeline.wait(3.0)
    redis.start_again()
    timeline.note("Redis started again")


AFTER_PROMOTION_SECONDS = 3.0
"""How long a paused primary remains paused after the promotion."""


def _behind_haproxy(folder: Path, stack: ExitStack) -> Topology:
    redis = stack.enter_context(SentinelRedis(folder, haproxy=True))
    return one_host(embedded_postgres(folder, stack), redis.url, redis)


def _sentinel_url(folder: Path, stack: ExitStack) -> Topology:
    redis = stack.enter_context(SentinelRedis(folder, haproxy=False))
    return one_host(embedded_postgres(folder, stack), redis.url, redis)


def _cluster(folder: Path, stack: ExitStack) -> Topology:
    redis = stack.enter_context(RedisCluster(folder))
    return one_host(embedded_postgres(folder, stack), redis.url, redis)


def _fail_over_sentinel(redis: SentinelRedis, timeline: Timeline) -> None:
    old = redis.primary()
    redis.fail_over()
    timeline.note("failover requested")
    redis.wait_for_promotion(old)
    timeline.note("replica promoted")


def _kill_sentinel_primary(redis: SentinelRedis, timeline: Timeline) -> None:
    old = redis.primary()
    old.process.kill()
    timeline.note("primary killed")
    redis.wait_for_promotion(old)
    timeline.note("replica promoted")


def _pause_sentinel_primary(redis: SentinelRedis, timeline: Timeline) -> None:
    old = redis.primary()
    old.process.pause()
    timeline.note("primary paused")
    redis.wait_for_promotion(old)
    timeline.note("replica promoted")
    timeline.wait(AFTER_PROMOTION_SECONDS)
    old.process.resume()
    timeline.note("old primary resumed")


def _fail_over_cluster(redis: RedisCluster, timeline: Timeline) -> None:
    redis.fail_over(REVOCATION_SLOT)
    timeline.note("replica promoted")


def _kill_cluster_primary(redis: RedisCluster, timeline: Timeline) -> None:
    old = redis.node_with_slot(REVOCATION_SLOT)
    old.process.kill()
    timeline.note("primary killed")
    redis.wait_for_promotion(REVOCATION_SLOT, old)
    timeline.note("replica promoted")


def _migrate_slot(redis: RedisCluster, timeline: Timeline) -> None:
    redis.move_slot(REVOCATION_SLOT)
    timeline.note("slot migrated")


def _patroni(folder: Path, stack: ExitStack, *, sync: bool) -> Topology:
    redis = stack.enter_context(PlainRedis(folder, persistent=False))
    cluster = stack.enter_context(PatroniCluster(folder, sync=sync))
    return one_host(cluster.url, redis.url, cluster)


def _switch_over(cluster: PatroniCluster, timeline: Timeline) -> None:
    old = cluster.primary()
    cluster.switch_over(old)
    timeline.note("standby promoted")


def _kill_postgres_primary(cluster: PatroniCluster, timeline: Timeline) -> None:
    old = cluster.primary()
    old.kill()
    timeline.note("primary killed")
    cluster.wait_for_promotion(old)
    timeline.note("standby promoted")


def _pause_postgres_primary(cluster: PatroniCluster, timeline: Timeline) -> None:
    old = cluster.primary()
    old.pause()
    timeline.note("primary paused")
    cluster.wait_for_promotion(old)
    timeline.note("standby promoted")
    timeline.wait(AFTER_PROMOTION_SECONDS)
    old.resume()
    timeline.note("old primary resumed")


def _pgbouncer(folder: Path, stack: ExitStack, *, mode: str) -> Topology:
    redis = stack.enter_context(PlainRedis(folder, persistent=False))
    server = stack.enter_context(PostgresServer(folder))
    pooler = stack.enter_context(PgBouncer(folder, server, mode))
    return Topology([Urls(pooler.url, redis.url, direct_database=server.url)], server.url, pooler)


def _restart_pooler(pooler: PgBouncer, timeline: Timeline) -> None:
    pooler.process.kill()
    timeline.note("PgBouncer killed")
    timeline.wait(2.0)
    pooler.start()
    timeline.note("PgBouncer started again")


def _far_host(folder: Path, stack: ExitStack, *, milliseconds: int) -> Topology:
    """Two hosts; the second reaches Redis and PostgreSQL over a link with a delay."""
    link = open_link(folder, stack, milliseconds, os.environ.get(LINK_VARIABLE))
    redis = stack.enter_context(PlainRedis(folder, persistent=False, address=link.address))
    postgres = stack.enter_context(PostgresServer(folder, link.address))
    database, redis_port, database_port = make_url(postgres.url), redis.node.port, postgres.port
    if link.kind == CONNECTION_RELAY:
        redis_port = relayed(folder, stack, str(redis_port), milliseconds)
        database_port = relayed(folder, stack, str(database_port), milliseconds)
    far_database = database.set(host=link.address, port=database_port).render_as_string(hide_password=False)
    far = Urls(far_database, f"redis://{link.address}:{redis_port}/0", link)
    return Topology([Urls(postgres.url, redis.url), far], postgres.url, redis)


def _only_delay(redis: PlainRedis, timeline: Timeline) -> None:
    timeline.note(f"no failure; Redis listens on port {redis.node.port}")


def _examine_two_hosts(deployment: Deployment, topology: Topology, load: Load) -> TwoHosts:
    link = topology.urls[1].link
    assert link is not None
    redis_port = urlsplit(topology.urls[1].redis).port
    assert redis_port is not None
    return examine(deployment, link, redis_port, load.receipts())


REVOCATION_SLOT = 14_215
"""The slot of `{kataven:revocation}`, which has the state of the revocation protocol."""

_SENTINEL_PROGRAMS = ("redis-server", "redis-sentinel")
_HAPROXY_PROGRAMS = (*_SENTINEL_PROGRAMS, "haproxy")
_CLUSTER_PROGRAMS = ("redis-server", "redis-cli")
_BEHIND_HAPROXY = "Redis with two replicas and three Sentinels, behind HAProxy"
_BY_SENTINEL_URL = "Redis with two replicas and three Sentinels, by a `redis+sentinel://` URL"
_BY_CLUSTER_URL = "Redis Cluster of three primaries with a replica each, by a `redis+cluster://` URL"
_PLANNED = "planned failover"
_KILLED = "primary killed"
_PAUSED = "primary paused, and resumed 3 s after the promotion"

_PATRONI_PROGRAMS = ("patroni", "etcd", "postgres", "redis-server")
_PGBOUNCER_PROGRAMS = ("pgbouncer", "postgres", "redis-server")


ROWS: list[Row] = [
    Row(
        "redis-killed",
        "One Redis with an append-only file",
        "Redis killed, and started again after 3 s with its data",
        ("redis-server",),
        lambda folder, stack: _plain_redis(folder, stack, persistent=True),
        _kill_plain_redis,
    ),
    Row(
        "redis-killed-empty",
        "One Redis without persistence",
        "Redis killed, and started again after 3 s without data",
        ("redis-server",),
        lambda folder, stack: _plain_redis(folder, stack, persistent=False),
        _kill_plain_redis,
    ),
    Row(
        "redis-haproxy-failover",
        _BEHIND_HAPROXY,
        _PLANNED,
        _HAPROXY_PROGRAMS,
        _behind_haproxy,
        _fail_over_sentinel,
    ),
    Row(
        "redis-haproxy-killed",
        _BEHIND_HAPROXY,
        _KILLED,
        _HAPROXY_PROGRAMS,
        _behind_haproxy,
        _kill_sentinel_primary,
    ),
    Row(
        "redis-haproxy-paused",
        _BEHIND_HAPROXY,
        _PAUSED,
        _HAPROXY_PROGRAMS,
        _behind_haproxy,
        _pause_sentinel_primary,
    ),
    *(
        Row(
            f"redis-sentinel-{name}",
            _BY_SENTINEL_URL,
            failure,
            _SENTINEL_PROGRAMS,
            _sentinel_url,
            disturb,
        )
        for name, failure, disturb in (
            ("failover", _PLANNED, _fail_over_sentinel),
            ("killed", _KILLED, _kill_sentinel_primary),
            ("paused", _PAUSED, _pause_sentinel_primary),
        )
    ),
    *(
        Row(
            f"redis-cluster-{name}",
            _BY_CLUSTER_URL,
            failure,
            _CLUSTER_PROGRAMS,
            _cluster,
            disturb,
        )
        for name, failure, disturb in (
            ("failover", "planned failover of the primary that has the revocation state", _fail_over_cluster),
            ("killed", "primary that has the revocation state killed", _kill_cluster_primary),
            ("slot", "slot that has the revocation state migrated to another primary", _migrate_slot),
        )
    ),
    *(
        Row(
            f"postgres-{'sync' if sync else 'async'}-{name}",
            f"PostgreSQL under Patroni with etcd, {'synchronous' if sync else 'asynchronous'}, by a multi-host URL",
            failure,
            _PATRONI_PROGRAMS,
            partial(_patroni, sync=sync),
            disturb,
        )
        for sync in (False, True)
        for name, failure, disturb in (
            ("switchover", "planned switchover", _switch_over),
            ("killed", "primary and its Patroni killed", _kill_postgres_primary),
            ("paused", _PAUSED, _pause_postgres_primary),
        )
    ),
    *(
        Row(
            f"pgbouncer-{mode}",
            f"PgBouncer in {mode} mode between the product and PostgreSQL, by two addresses",
            "PgBouncer killed, and started again after 2 s",
            _PGBOUNCER_PROGRAMS,
            partial(_pgbouncer, mode=mode),
            _restart_pooler,
        )
        for mode in ("session", "transaction")
    ),
    *(
        Row(
            f"two-hosts-{milliseconds}ms",
            f"Two hosts, one of them with a round trip of {milliseconds} ms to Redis and PostgreSQL",
            "none besides the delay",
            ("redis-server", "postgres"),
            partial(_far_host, milliseconds=milliseconds),
            _only_delay,
            examine=_examine_two_hosts,
        )
        for milliseconds in (5, 30)
    ),
]
