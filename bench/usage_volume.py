"""Counts what usage writes to an account's database: rows, statements, write-ahead log and sizes, for an hour of calls.

    python -m bench.usage_volume

Four workers write on a simulated clock, at the intervals of the recorder. The first account has 1 request per second of
1 key, the second has 100 requests per second of 20 keys. Both call 6 routes, from 2 addresses for each key, and 5 % of
the calls fail.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import Session

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.identity.principal import CredentialKind, Principal
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.usage import recorder, store
from kataven.usage.observed import Observed
from kataven.usage.outcomes import RequestStep
from kataven.usage.pending import PendingUsage
from kataven.usage.policy import UsagePolicy

WORKERS, SECONDS = 4, 3600
ROUTES = ("/v1/agents", "/v1/agents/<agent_id>", "/v1/me", "/v1/verify", "/v1/widget-keys", "/v1/usage")
TABLES = ("usage_minutes", "usage_hours", "usage_totals", "usage_addresses", "usage_callers", "request_log")


@dataclass(frozen=True)
class Traffic:
    per_second: int
    keys: int
    every: int


TRAFFIC = (Traffic(1, 1, int(recorder.WRITE_SECONDS)), Traffic(100, 20, int(recorder.LARGE_BATCH_SECONDS)))


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        with EmbeddedPostgres(folder / "postgres", fsync=False) as postgres:
            for number, traffic in enumerate(TRAFFIC):
                server = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
                with server.connect() as connection:
                    connection.execute(text(f"CREATE DATABASE account{number}"))
                server.dispose()
                _run(create_engine(postgres.url(f"account{number}"), isolation_level="AUTOCOMMIT"), traffic)
    return 0


def _run(engine: Engine, traffic: Traffic) -> None:
    chance = random.Random(1)  # noqa: S311  synthetic calls
    keys = [Principal(CredentialKind.API_KEY, "acme", str(UUID(int=n + 1)), f"key {n}") for n in range(traffic.keys)]
    policy = UsagePolicy()
    workers = [PendingUsage(policy) for _ in range(WORKERS)]
    start = int(time.time()) // 3600 * 3600 - SECONDS
    with engine.connect() as connection:
        ACCOUNT_SCHEMA.upgrade(connection)
    with engine.connect() as connection:
        before, statements, written = _wal(connection), 0, 0.0
        for second in range(0, SECONDS, traffic.every):
            for _ in range(traffic.per_second * traffic.every):
                at = start + second + chance.random() * traffic.every
                chance.choice(workers).add(_call(at, chance.choice(keys), chance))
            for number, worker in enumerate(workers):
                if not worker.empty:
                    batch = worker.take(str(UUID(int=number + 1)), second + 1)
                    began = time.perf_counter()
                    with Session(connection) as session:
                        store.write(session, batch)
                    written += time.perf_counter() - began
                    statements += 1
        print(f"{traffic.per_second} requests/s of {traffic.keys} keys, in an hour")
        print(f"  statements {statements}, {written / statements * 1000:.1f} ms each")
        print(f"  write-ahead log {(_wal(connection) - before) / 1e6:.1f} MB")
        for table in TABLES:
            rows, size = connection.execute(
                text(f"SELECT (SELECT count(*) FROM {table}), pg_total_relation_size('{table}')")
            ).one()
            print(f"  {table:<16} {rows:7} rows {size / 1e6:8.2f} MB")
    engine.dispose()


def _call(at: float, key: Principal, chance: random.Random) -> Observed:
    fails = chance.random() < 0.05
    status, code = (404, "not_found") if fails else (200, None)
    step = RequestStep.HANDLER if fails else RequestStep.RESPONSE
    address = f"192.0.2.{chance.randrange(2)}"
    return (at, 0.01, key, "GET", chance.choice(ROUTES), status, code, step, address, "curl/8", f"id-{at}", None)


def _wal(connection: Connection) -> float:
    return float(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")).scalar_one())


if __name__ == "__main__":
    sys.exit(main())
