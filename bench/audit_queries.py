"""Times the filters of the audit log on an account with a million events, and prints how PostgreSQL executes them.

    python -m bench.audit_queries [--events N] [--explain]

Measured is the CPU time of PostgreSQL's process, which other processes on the machine disturb little. Exit status 1 if
a page takes over 50 ms, or if a statement reads the log from start to end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.orm import Session

from kataven.account import audit_search
from kataven.account.audit_search import AuditSearch
from kataven.account.paging import Position
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system.schema import ACCOUNT_SCHEMA

MOST_MS = 50.0
TIMES = 5
FILL = (
    """INSERT INTO api_keys (id, name, key_hash, pepper_id, hint, created_by)
       SELECT md5(n::text)::uuid, 'Server ' || n, sha256(n::text::bytea), 'p', 'hint', 'bench'
       FROM generate_series(1, 300) n""",
    """INSERT INTO audit_events (id, created_at, actor, actor_name, action, target, detail, address)
       SELECT gen_random_uuid(), now() - n * interval '1 minute', 'jwt:person-' || n % 40, 'Person ' || n % 40,
              (ARRAY['agent.created', 'agent.changed', 'api_key.created', 'widget_key.changed'])[1 + n % 4],
              md5((n % 300 + 1)::text)::uuid::text, jsonb_build_object('name', 'Server ' || (n % 300 + 1)),
              '198.51.100.7'
       FROM generate_series(1, :events) n""",
    """UPDATE audit_events SET actor = 'jwt:rare', actor_name = 'Rare', action = 'people.rare'
       WHERE id = (SELECT id FROM audit_events ORDER BY created_at LIMIT 1)""",
    "ANALYZE",
)
DAY = timedelta(days=1)


def filters() -> dict[str, AuditSearch]:
    """By name. The rare values are in the oldest event, or in none."""
    now = datetime.now(UTC)
    return {
        "none": AuditSearch(),
        "frequent action": AuditSearch(action="api_key.created"),
        "rare action": AuditSearch(action="people.rare"),
        "part of an action": AuditSearch(action="rar"),
        "unknown action": AuditSearch(action="nothing"),
        "frequent actor": AuditSearch(actor="jwt:person-7"),
        "rare actor": AuditSearch(actor="jwt:rare"),
        "part of an actor": AuditSearch(actor="person 7"),
        "target": AuditSearch(target="c4ca4238-a0b9-2382-0dcc-509a6f75849b"),
        "unknown target": AuditSearch(target="c4ca4238-a0b9-2382-0dcc-000000000000"),
        "name": AuditSearch(target="server 299"),
        "unknown name": AuditSearch(target="nothing has this name"),
        "a day, 100 days ago": AuditSearch(since=now - 100 * DAY, until=now - 99 * DAY),
        "a day of an actor": AuditSearch(actor="jwt:person-7", since=now - 100 * DAY, until=now - 99 * DAY),
        "rare actor and frequent action": AuditSearch(actor="jwt:rare", action="api_key.created"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--explain", action="store_true", help="print the plans")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        with EmbeddedPostgres(folder / "postgres", fsync=False) as postgres:
            engine = create_engine(postgres.url("postgres"))
            with engine.connect() as connection:
                ACCOUNT_SCHEMA.upgrade(connection)
            with engine.begin() as connection:
                for statement in FILL:
                    connection.execute(text(statement), {"events": given.events} if ":events" in statement else {})
            with engine.connect() as connection:
                # Parallel workers are other processes, whose time would be missing.
                connection.execute(text("SET max_parallel_workers_per_gather = 0"))
                passed = min([_measure(connection, *one, explain=given.explain) for one in filters().items()])
            engine.dispose()
    return 0 if passed else 1


def _measure(connection: Connection, name: str, wanted: AuditSearch, *, explain: bool) -> bool:
    """A first page, and a page in the middle."""
    statements: list[tuple[str, Any]] = []

    def remember(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    middle = Position(datetime.now(UTC) - timedelta(days=300), UUID(int=0))
    passed = True
    for start in (None, middle):
        event.listen(connection, "before_cursor_execute", remember)
        times = []
        for _ in range(TIMES):
            statements.clear()
            with Session(connection) as session:
                before = _cpu_seconds(pid)
                known = audit_search.facets(session, indexed=True)
                audit_search.search(session, 50, start, audit_search.resolve(session, wanted, known))
                times.append((_cpu_seconds(pid) - before) * 1000)
        event.remove(connection, "before_cursor_execute", remember)
        plan = "\n".join(
            row
            for statement, parameters in statements
            for (row,) in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        )
        reads_all = "Seq Scan on audit_events" in plan
        good = median(times) <= MOST_MS and not reads_all
        passed = passed and good
        page = "first page" if start is None else "later page"
        print(f"{name:<32} {page}  {median(times):6.1f} ms{'' if good else '  TOO SLOW'}", flush=True)
        if explain or not good:
            print(plan)
    return passed


def _cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    sys.exit(main())
