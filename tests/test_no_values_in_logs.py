"""Logs and tracebacks contain no customer data from PostgreSQL errors."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system.schema import upgrade_system
from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.error_classification import fault_of, in_words
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.programs import Programs
from tests.support.app_harness import AppHarness, new_account
from tests.support.servers import ask

MARK = "Marked Words 4711"
ACCOUNT = "values-in-logs"


@pytest.fixture(scope="module")
def account(harness: AppHarness) -> str:
    new_account(harness.services, ACCOUNT)
    return ACCOUNT


@pytest.fixture
def database(harness: AppHarness, account: str, postgres: EmbeddedPostgres) -> str:
    record = harness.services.directory.read(account)
    assert record is not None
    return str(record.tenant.url.database)


@pytest.mark.parametrize(
    ("constraint", "code"),
    [
        ("CREATE UNIQUE INDEX marked ON agents (name)", "23505"),
        ("ALTER TABLE agents ADD CONSTRAINT marked CHECK (name NOT LIKE 'Marked%') NOT VALID", "23514"),
    ],
    ids=["DETAIL: Key (name)=(…)", "DETAIL: Failing row contains (…)"],
)
def test_an_unexpected_error_of_a_route_is_logged_without_values(
    harness: AppHarness,
    account: str,
    database: str,
    postgres: EmbeddedPostgres,
    capsys: pytest.CaptureFixture[str],
    constraint: str,
    code: str,
) -> None:
    ask(postgres, constraint, database)
    server = harness.bearer(harness.new_key(account))
    try:
        responses = [server.post("/v1/agents", {"name": MARK}) for _ in range(2)]
    finally:
        drop = "DROP INDEX marked" if "INDEX" in constraint else "ALTER TABLE agents DROP CONSTRAINT marked"
        ask(postgres, drop, database)
    assert responses[-1].status_code == 500
    assert MARK not in responses[-1].text
    written = capsys.readouterr().err
    assert MARK not in written
    (unforeseen,) = [line for line in map(json.loads, written.splitlines()) if line["message"] == "unforeseen"][-1:]
    assert f"({code})" in unforeseen["traceback"]
    assert "marked" in unforeseen["traceback"]  # the constraint's name remains
    assert "DETAIL" not in unforeseen["traceback"]


def test_an_unexpected_error_of_a_command_is_shown_without_values(
    harness: AppHarness, account: str, postgres: EmbeddedPostgres
) -> None:
    system = "kataven_system"
    ask(postgres, "UPDATE accounts SET account_name = 'Marked Words 4711' WHERE account_id = 'values-in-logs'", system)
    ask(postgres, "ALTER TABLE accounts ADD CONSTRAINT marked CHECK (max_key_expiry_days <> 77) NOT VALID", system)
    try:
        failed = harness.app.test_cli_runner().invoke(
            args=["accounts", "policy", account, "--max-key-expiry-days", "77"]
        )
    finally:
        ask(postgres, "ALTER TABLE accounts DROP CONSTRAINT marked", system)
    assert isinstance(failed.exception, IntegrityError)
    shown = failed.output + "".join(traceback.format_exception(failed.exception))
    assert MARK not in shown
    assert "DETAIL" not in shown
    assert "(23514)" in shown


@pytest.fixture
def engine(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    created = EngineFactory(ConnectionSettings()).create_engine(make_url(postgres.url("postgres")))
    yield created
    created.dispose()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT CAST(:mark AS uuid)", 'invalid input syntax for type uuid: "…" (22P02)'),
        ("SELECT :mark::json", "invalid input syntax for type json (22P02)"),
        ("SELECT nothing_like_it(:mark)", "function nothing_like_it(unknown) does not exist (42883)"),
        ("SELECT CAST(:mark AS int) FROM pg_class WHERE FALSE OR 1 / 0 = 1", None),
    ],
    ids=["value", "context", "LINE 1", "several"],
)
def test_an_error_message_is_the_code_and_the_primary_message(
    engine: Engine, statement: str, message: str | None
) -> None:
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text(statement.replace("::", r"\:\:")), {"mark": MARK})
    shown = "".join(traceback.format_exception(caught.value))
    assert MARK not in shown
    assert MARK not in repr(caught.value)
    assert MARK not in repr(caught.value.orig)
    if message is not None:
        assert in_words(caught.value) == message
        assert str(caught.value.orig) == message
        assert message in str(caught.value)


def test_code_and_diagnostics_of_an_error_remain(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE marks (mark text CONSTRAINT once UNIQUE)"))
        insert = text("INSERT INTO marks VALUES (:mark)")
        connection.execute(insert, {"mark": MARK})
        with pytest.raises(IntegrityError) as caught:
            connection.execute(insert, {"mark": MARK})
    assert isinstance(caught.value.orig, psycopg2.errors.UniqueViolation)
    assert caught.value.orig.pgcode == "23505"
    assert caught.value.orig.diag.constraint_name == "once"
    assert fault_of(caught.value) is None
    assert MARK not in str(caught.value)


def test_a_failed_connection_has_a_reason(postgres: EmbeddedPostgres) -> None:
    url = make_url(postgres.url("there_is_none"))
    with pytest.raises(DBAPIError, match='database "there_is_none" does not exist'):
        EngineFactory(ConnectionSettings()).create_engine(url).connect()


def test_errors_while_upgrading_the_system_database_contain_no_values(postgres: EmbeddedPostgres) -> None:
    upgrade_system(postgres.url("values_system"))
    ask(postgres, "UPDATE alembic_version SET version_num = 'system_0001'", "values_system")
    with pytest.raises(DBAPIError) as caught:
        upgrade_system(postgres.url("values_system"))
    assert str(caught.value.orig).endswith("already exists (42P07)")


def test_the_error_of_a_failed_program_contains_no_row(tmp_path: Path) -> None:
    program = tmp_path / "psql"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'psql:dump.sql:3: ERROR:  duplicate key value violates unique constraint \"once\"' >&2\n"
        f"echo 'DETAIL:  Key (mark)=({MARK}) already exists.' >&2\n"
        f"echo 'CONTEXT:  COPY marks, line 1: \"{MARK}\"' >&2\n"
        "exit 3\n"
    )
    program.chmod(0o755)
    with pytest.raises(Exception, match="duplicate key value violates") as caught:
        Programs(tmp_path).run("psql", make_url("postgresql:///x"), [])
    assert MARK not in str(caught.value)
