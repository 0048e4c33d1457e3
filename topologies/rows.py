"""The rows: each is a topology with one failure."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from kataven.dev.embedded.postgres import EmbeddedPostgres
from topologies.deployment import Urls
from topologies.engines.redis_nodes import PlainRedis
from topologies.run_row import Row, Timeline, Topology


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


ROWS = [
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
]
