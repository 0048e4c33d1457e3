"""Which modules need sessions of PostgreSQL itself. They connect to the direct address, past any connection pooler."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.session_statements import SESSION_DEPENDENT

ROOT = Path(__file__).resolve().parents[1]
DIRECT = {
    "kataven/tenancy/server.py": "locks and DDL of Maintenance, on the connections of DatabaseServer",
    "kataven/tenancy/migrations/steps.py": "a migration's lock, on the connections of Applier",
    "kataven/system/suitability.py": "only describes CREATE DATABASE; connects to direct addresses",
    "kataven/tenancy/migrations/app_tables.py": "a lock and a search path, on a connection of DatabaseServer",
    "kataven/tenancy/prepared_statements.py": "prepares only on a DirectConnection that does not lead to a pooler",
    "kataven/operations/migration_runs.py": "the lock of a run, on a connection of DatabaseServer",
}
"""Why each of these modules is right: DatabaseServer refuses poolers, and Applier gets tenants past them."""
CONNECTING = {
    "kataven/tenancy/server.py",
    "kataven/tenancy/pooler_check.py",
    "kataven/tenancy/dialect.py",
    "kataven/tenancy/serving/engines.py",
    "kataven/tenancy/migrations/apply.py",
    "kataven/tenancy/migrations/survey.py",
    "kataven/tenancy/migrations/alembic_process.py",
    "kataven/system/suitability.py",
}
"""Modules that create engines. All but `engines.py` connect to direct addresses."""


def sources() -> dict[str, str]:
    files = [path for folder in ("kataven", "alembic") for path in (ROOT / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in files}


def test_modules_that_need_a_session_are_known() -> None:
    found = {
        path
        for path, source in sources().items()
        if any(SESSION_DEPENDENT.search(line) for line in source.splitlines())
    }
    assert found == set(DIRECT)


def test_modules_that_connect_are_known() -> None:
    assert {path for path, source in sources().items() if "create_engine(" in source} == CONNECTING


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_try_advisory_lock(1)",
        "LISTEN events",
        "CREATE TEMP TABLE x (n int)",
        "SET statement_timeout = 5",
        "SELECT 1; SET timezone TO 'UTC'",
        "PREPARE found AS SELECT 1",
        "DECLARE rows CURSOR FOR SELECT 1",
        'CREATE DATABASE "acme"',
    ],
)
def test_statement_is_recognized(statement: str) -> None:
    assert SESSION_DEPENDENT.search(statement)


@pytest.mark.parametrize("statement", ["SET LOCAL lock_timeout = 3", "UPDATE agents SET name = 'x'"])
def test_statement_of_one_transaction_is_not_recognized(statement: str) -> None:
    assert not SESSION_DEPENDENT.search(statement)
