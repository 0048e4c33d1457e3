"""When the system database is unavailable, callers get SystemDatabaseUnavailable until it is available again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system.database import BREAKER_FAILURES, SystemDatabase
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.serving.registry import EngineRegistry
from tests.support.waiting import wait_until


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[SystemDatabase]:
    opened = SystemDatabase(postgres.url("postgres"))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "code", ["53100", "53300", "57P03", "57014", "25006", "55P03", "40P01"], ids=lambda code: f"sqlstate-{code}"
)
def test_temporary_errors_are_reported_as_unavailable(database: SystemDatabase, code: str) -> None:
    """Disk full, no free connections, starting up, statement canceled, read-only, locked, deadlock."""
    for session_of in (database.reading, database.autocommit, database.writing):
        with pytest.raises(SystemDatabaseUnavailable), session_of() as session:
            session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$"))
    with database.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_an_invalid_statement_raises_the_database_error(database: SystemDatabase) -> None:
    with pytest.raises(DBAPIError), database.reading() as session:
        session.execute(text("SELECT 1 / 0"))


def test_a_failure_of_an_accounts_database_is_not_a_failure_of_the_system_database(database: SystemDatabase) -> None:
    registry = EngineRegistry()
    tenant = Tenant("acme", database.url.set(database="no_such_database"))
    with pytest.raises(TenantUnavailable), database.reading(), registry.reading(tenant):
        pass


def test_a_frozen_backend_times_out_and_is_replaced(database: SystemDatabase) -> None:
    stopped: list[int] = []

    def query_a_frozen_backend() -> None:
        with database.reading() as session:
            stopped.append(session.scalar(text("SELECT pg_backend_pid()")) or 0)
            os.kill(stopped[0], signal.SIGSTOP)
            session.execute(text("SELECT 1"))

    try:
        with pytest.raises(SystemDatabaseUnavailable):
            query_a_frozen_backend()
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    with database.reading() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != stopped[0]


def refusal(database: SystemDatabase) -> str:
    with pytest.raises(SystemDatabaseUnavailable) as refused, database.reading():
        pass
    return str(refused.value.__cause__)


def test_breaker_opens_after_repeated_failures_and_closes_when_a_connection_succeeds(
    postgres: EmbeddedPostgres, database: SystemDatabase
) -> None:
    late = SystemDatabase(postgres.url("late_system"))
    for _ in range(BREAKER_FAILURES):
        assert "no connection" in refusal(late)
    assert "its circuit breaker is open" in refusal(late)
    with database.autocommit() as session:
        session.execute(text("CREATE DATABASE late_system STRATEGY file_copy"))

    def responds() -> bool:
        try:
            with late.reading() as session:
                return session.scalar(text("SELECT 1")) == 1
        except SystemDatabaseUnavailable:
            return False

    try:
        wait_until(responds, 10)
        assert responds()
    finally:
        late.close()
        with database.autocommit() as session:
            session.execute(text("DROP DATABASE late_system WITH (FORCE)"))
