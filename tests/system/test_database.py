"""The system database when it can't answer: 503, and never for good."""

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
from tests.support.waiting import wait_until


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[SystemDatabase]:
    opened = SystemDatabase(postgres.url("postgres"))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "code", ["53100", "53300", "57P03", "57014", "25006", "55P03", "40P01"], ids=lambda code: f"sqlstate-{code}"
)
def test_what_time_or_an_operator_will_mend_is_unavailable(database: SystemDatabase, code: str) -> None:
    """Disk full, connections used up, starting, cancelled, read-only, locked, deadlocked."""
    for session_of in (database.reading, database.writing):
        with pytest.raises(SystemDatabaseUnavailable), session_of() as session:
            session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; END $$"))
    with database.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_a_statement_that_is_wrong_is_our_fault_and_is_told(database: SystemDatabase) -> None:
    with pytest.raises(DBAPIError), database.reading() as session:
        session.execute(text("SELECT 1 / 0"))


def test_a_backend_that_says_nothing_is_given_up_on(database: SystemDatabase) -> None:
    stopped: list[int] = []

    def ask_one_that_is_stopped() -> None:
        with database.reading() as session:
            stopped.append(session.scalar(text("SELECT pg_backend_pid()")) or 0)
            os.kill(stopped[0], signal.SIGSTOP)
            session.execute(text("SELECT 1"))

    try:
        with pytest.raises(SystemDatabaseUnavailable):
            ask_one_that_is_stopped()
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    with database.reading() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != stopped[0]


def test_who_can_not_be_reached_is_not_asked_by_everybody() -> None:
    nowhere = SystemDatabase("postgresql+psycopg2://x@127.0.0.1:1/nowhere")
    for _ in range(BREAKER_FAILURES + 1):
        with pytest.raises(SystemDatabaseUnavailable), nowhere.reading():
            pass
    nowhere._engine = None  # type: ignore[assignment]  # whoever asked now would fall over it
    with pytest.raises(SystemDatabaseUnavailable), nowhere.reading():
        pass


def test_after_a_pause_one_may_try_and_opens_the_way(postgres: EmbeddedPostgres) -> None:
    database = SystemDatabase(postgres.url("postgres"))
    good, database._engine = database._engine, SystemDatabase("postgresql+psycopg2://x@127.0.0.1:1/nowhere")._engine
    for _ in range(BREAKER_FAILURES):
        with pytest.raises(SystemDatabaseUnavailable), database.reading():
            pass
    database._engine = good

    def answers() -> bool:
        try:
            with database.reading() as session:
                return session.scalar(text("SELECT 1")) == 1
        except SystemDatabaseUnavailable:
            return False

    wait_until(answers, 10)
    assert answers()
    database.close()
