"""Times the queries of usage on a large account, and prints how PostgreSQL executes them.

    python -m bench.usage_queries [--explain]

The account has 300 API keys, 10,000 audit events, a week of hours, two days of minutes and of addresses, and a full
request log. Measured is the CPU time of PostgreSQL's process, which other processes on the machine disturb little. Exit
status 1 if a query takes over 50 ms, or a week by key over 500 ms, or if one reads a large table from start to end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.orm import Session

from kataven.account.paging import Position
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.usage import keys, receipts, requests, series
from kataven.usage.outcomes import CallOutcome
from kataven.usage.requests import RequestSearch
from kataven.usage.series import UsageGroup, UsageInterval

MOST_MS = 50.0
MOST_MS_FOR_A_WEEK_BY_KEY = 500.0
TIMES = 7
WEEK_BY_KEY = "a week by hour and key"
TABLES = ("usage_minutes", "usage_hours", "usage_totals", "usage_addresses", "audit_events", "request_log")
LARGE = ("usage_minutes", "usage_addresses", "audit_events")
"""Tables that no query may read from start to end. A week by key reads a week of hours, and these are all."""
ROUTES = "ARRAY['GET /v1/agents', 'GET /v1/agents/<agent_id>', 'POST /v1/agents', 'GET /v1/me']"
FILL = (  # the routes are constants
    """INSERT INTO api_keys (id, name, key_hash, pepper_id, hint, created_by)
       SELECT md5(n::text)::uuid, 'key ' || n, sha256(n::text::bytea), 'p', 'hint', 'bench'
       FROM generate_series(1, 300) n""",
    """INSERT INTO audit_events (id, created_at, actor, actor_name, action, target, detail)
       SELECT gen_random_uuid(), now() - n * interval '5 minutes', 'jwt:a', 'A', 'api_key.revoked',
              md5((n % 300 + 1)::text)::uuid, '{"receipt": {"workers": 2, "acknowledged": 2, "ms": 3}}'
       FROM generate_series(0, 9999) n""",
    f"""INSERT INTO usage_hours
        SELECT date_trunc('hour', now()) - h * interval '1 hour', md5(k::text)::uuid, ({ROUTES})[r], o[1], o[2],
               'api_key', 50, 1.0
        FROM generate_series(0, 167) h, generate_series(1, 300) k, generate_series(1, 4) r,
             unnest(ARRAY['ok', 'refused']) WITH ORDINALITY AS u(name, n),
             LATERAL (SELECT ARRAY[name, CASE n WHEN 1 THEN '' ELSE 'revoked_credential' END]) AS x(o)""",
    f"""INSERT INTO usage_minutes
        SELECT date_trunc('minute', now()) - m * interval '1 minute', md5(((m * 7 + k) % 300 + 1)::text)::uuid,
               ({ROUTES})[r], 'ok', '', 'api_key', 2, 0.01
        FROM generate_series(0, 2879) m, generate_series(1, 40) k, generate_series(1, 4) r""",
    """INSERT INTO usage_totals
       SELECT 3600, hour, route, outcome, code, sum(calls), sum(seconds) FROM usage_hours GROUP BY 2, 3, 4, 5
       UNION ALL
       SELECT 60, minute, route, outcome, code, sum(calls), sum(seconds) FROM usage_minutes GROUP BY 2, 3, 4, 5""",
    """INSERT INTO usage_addresses
       SELECT date_trunc('hour', now()) - h * interval '1 hour', md5(k::text)::uuid, '192.0.2.' || a, 'curl', 10,
              date_trunc('hour', now()) - h * interval '1 hour' + interval '1 minute', 'GET /v1/agents'
       FROM generate_series(0, 47) h, generate_series(1, 300) k, generate_series(1, 4) a""",
    """INSERT INTO usage_callers
       SELECT md5(k::text)::uuid, 'api_key', now(), '192.0.2.1', 'curl', 'GET /v1/agents', 'ok', ''
       FROM generate_series(1, 300) k""",
    """INSERT INTO request_log (id, created_at, request_id, caller, kind, name, route, status, outcome, code, step,
                                milliseconds, address, agent)
       SELECT gen_random_uuid(), now() - n * interval '8 seconds', 'request-' || n, md5((n % 300 + 1)::text)::uuid,
              'api_key', 'key', 'GET /v1/agents', 429, 'limited', 'rate_limited', 6, 1.5, '192.0.2.1', 'curl'
       FROM generate_series(0, 9999) n""",
    "ANALYZE",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--explain", action="store_true", help="print the plans")
    explain = parser.parse_args().explain
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        with EmbeddedPostgres(folder / "postgres", fsync=False) as postgres:
            engine = create_engine(postgres.url("postgres"))
            with engine.connect() as connection:
                ACCOUNT_SCHEMA.upgrade(connection)
            with engine.begin() as connection:
                for statement in FILL:
                    connection.execute(text(statement))
            with engine.connect() as connection:
                # Parallel workers are other processes, whose time would be missing.
                connection.execute(text("SET max_parallel_workers_per_gather = 0"))
                _print_sizes(connection)
                passed = min([_measure(connection, *query, explain) for query in _queries()])
            engine.dispose()
    return 0 if passed else 1


def _queries() -> list[tuple[str, Callable[[Session], object]]]:
    now = datetime.now(UTC)
    day, week = now - timedelta(days=1), now - timedelta(days=7)
    key = UUID("c4ca4238-a0b9-2382-0dcc-509a6f75849b")  # md5 of 1
    page = Position(now - timedelta(hours=5), key)
    everything = RequestSearch()
    return [
        ("24 h by outcome", lambda session: series.last_day_by_outcome(session, now)),
        ("a week by hour and route", _counts(week, now, UsageInterval.HOUR, UsageGroup.ROUTE)),
        (WEEK_BY_KEY, _counts(week, now, UsageInterval.HOUR, UsageGroup.CALLER)),
        ("24 h by minute and outcome", _counts(day, now, UsageInterval.MINUTE, UsageGroup.OUTCOME)),
        ("a week of one key", _counts(week, now, UsageInterval.HOUR, UsageGroup.OUTCOME, {"caller": str(key)})),
        ("24 h of 50 keys by hour", lambda session: keys.hourly(session, _keys(session), day)),
        ("last calls of 50 keys", lambda session: keys.last_calls(session, _keys(session))),
        ("addresses of a key in 24 h", lambda session: keys.addresses(session, key, day)),
        ("routes of a key in 24 h", lambda session: keys.routes(session, key, day)),
        ("preview of a revocation", lambda session: keys.preview(session, key, now)),
        ("tail of requests", lambda session: requests.listing(session, 50, None, everything, 24)),
        ("requests, page 100", lambda session: requests.listing(session, 50, page, everything, 24)),
        (
            "requests of a key",
            lambda session: requests.listing(session, 50, None, RequestSearch(key, CallOutcome.LIMITED), 24),
        ),
        ("explain a request", lambda session: requests.find(session, "request-5000", 24)),
        (
            "refusals since, an hour ago",
            lambda session: keys.refused_since(session, key, ["revoked_credential"], now - timedelta(hours=1)),
        ),
        (
            "refusals since, a week ago",
            lambda session: keys.refused_since(session, key, ["revoked_credential"], week),
        ),
        ("receipt", lambda session: receipts.read(session, _receipt(session))),
    ]


def _counts(
    start: datetime, end: datetime, interval: UsageInterval, group: UsageGroup, filters: dict[str, str] | None = None
) -> Callable[[Session], object]:
    return lambda session: series.counts(session, start, end, interval, group, filters)


def _keys(session: Session) -> list[UUID]:
    return list(session.scalars(text("SELECT id FROM api_keys ORDER BY name LIMIT 50")))


def _receipt(session: Session) -> UUID:
    found: UUID = session.scalars(text("SELECT id FROM audit_events ORDER BY created_at LIMIT 1")).one()
    return found


def _measure(connection: Connection, name: str, query: Callable[[Session], object], explain: bool) -> bool:
    statements: list[tuple[str, Any]] = []

    def remember(_connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        statements.append((statement, parameters))

    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    event.listen(connection, "before_cursor_execute", remember)
    times = []
    for _ in range(TIMES):
        statements.clear()
        with Session(connection) as session:
            before = _cpu_seconds(pid)
            query(session)
            times.append((_cpu_seconds(pid) - before) * 1000)
    event.remove(connection, "before_cursor_execute", remember)
    plan = ""
    for statement, parameters in statements:
        rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        plan += "\n".join(f"      {row[0]}" for row in rows) + "\n"
    scanned = [table for table in LARGE if f"Seq Scan on {table}" in plan]
    most = MOST_MS_FOR_A_WEEK_BY_KEY if name == WEEK_BY_KEY else MOST_MS
    slow = median(times) > most
    wrong = f"   READS ALL OF {', '.join(scanned)}" if scanned else "   SLOW" if slow else ""
    print(f"  {name:<30} {median(times):8.1f} ms{wrong}")
    if explain:
        print(plan)
    return not scanned and not slow


def _cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _print_sizes(connection: Connection) -> None:
    for table in TABLES:
        rows, size = connection.execute(
            text(f"SELECT (SELECT count(*) FROM {table}), pg_total_relation_size('{table}')")
        ).one()
        print(f"  {table:<16} {rows:8} rows {size / 1e6:8.1f} MB, {size / max(rows, 1):5.0f} bytes a row")


if __name__ == "__main__":
    sys.exit(main())
