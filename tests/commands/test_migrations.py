"""`flask migrations upgrade --sql` and `flask migrations revision`."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import Connection, make_url, text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system import schema
from kataven.system.schema import ACCOUNT_SCHEMA, SYSTEM_SCHEMA
from kataven.tenancy.schema import Schema, scripts_folder
from kataven.tenancy.server import DatabaseServer
from tests.support.app_harness import AppHarness, new_account
from tests.support.walk import put_at

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '3s';"


def migrations(harness: AppHarness, *words: str) -> Result:
    return harness.app.test_cli_runner().invoke(args=["migrations", *words])


def sql_of(one: Schema, start: str | None = None) -> str:
    steps = []
    for revision in one.path(start):
        steps.append(f"BEGIN;\n\n{LOCK_TIMEOUT}\n\n{one.render(start, revision)}COMMIT;\n")
        start = revision
    return "\n".join(steps) + "\n"


@pytest.fixture
def server(postgres: EmbeddedPostgres) -> DatabaseServer:
    return DatabaseServer(make_url(postgres.url("postgres")))


@pytest.mark.parametrize(
    ("words", "expected"), [(("--system",), SYSTEM_SCHEMA), (("--all",), ACCOUNT_SCHEMA), ((), ACCOUNT_SCHEMA)]
)
def test_sql_covers_the_named_databases(harness: AppHarness, words: tuple[str, ...], expected: Schema) -> None:
    shown = migrations(harness, "upgrade", *words, "--sql")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == sql_of(expected)


def test_system_sql_precedes_account_sql(harness: AppHarness) -> None:
    shown = migrations(harness, "upgrade", "--system", "--all", "--sql")
    assert shown.stdout == sql_of(SYSTEM_SCHEMA) + sql_of(ACCOUNT_SCHEMA)


def test_account_sql_starts_at_the_current_revision(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    oldest = ACCOUNT_SCHEMA.window[0]
    for name in ("reviewed-a", "reviewed-b", "reviewed-c"):
        new_account(harness.services, name)
    for name in ("reviewed-a", "reviewed-b"):
        put_at(harness, postgres, name, oldest)
    chosen = [word for name in "abc" for word in ("--account", f"reviewed-{name}")]
    shown = migrations(harness, "upgrade", *chosen, "--sql")
    assert shown.stdout == (
        f"-- reviewed-a, reviewed-b: {oldest} to {ACCOUNT_SCHEMA.head}\n\n{sql_of(ACCOUNT_SCHEMA, oldest)}"
        f"-- reviewed-c: at {ACCOUNT_SCHEMA.head}, nothing to do\n\n"
    )
    unknown = migrations(harness, "upgrade", "--account", "reviewed-z", "--sql")
    assert unknown.exit_code == 1
    assert "reviewed-z" in unknown.stderr


@pytest.mark.parametrize(("words", "expected"), [(("--system",), SYSTEM_SCHEMA), (("--all",), ACCOUNT_SCHEMA)])
def test_sql_run_manually_gives_the_same_schema_as_the_command(
    harness: AppHarness, server: DatabaseServer, words: tuple[str, ...], expected: Schema
) -> None:
    script = migrations(harness, "upgrade", *words, "--sql").stdout
    states = []
    for name in ("by_hand", "by_command"):
        with server.maintenance() as maintenance:
            maintenance.create(name, "template0")
        with server.connect(name) as connection:
            if name == "by_hand":
                connection.exec_driver_sql(script, execution_options={"no_parameters": True})
            else:
                expected.upgrade(connection)
        with server.connect(name) as connection:
            states.append(expected.state(connection))
        with server.maintenance() as maintenance:
            maintenance.drop(name)
    assert states[0] == states[1]
    assert states[0].revision == expected.head


def test_system_upgrade_uses_the_lock_timeout_of_its_sql(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def upgrade(_: Schema, connection: Connection) -> None:
        found.append(connection.execute(text("SHOW lock_timeout")).scalar_one())

    monkeypatch.setattr(Schema, "upgrade", upgrade)
    schema.upgrade_system(postgres.url("system_that_waits"))
    assert found == ["3s"]


@pytest.fixture
def scratch_schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the product's revisions in a temporary folder."""
    folder = tmp_path / "alembic"
    shutil.copytree(scripts_folder(), folder)
    for name in ("SYSTEM_SCHEMA", "ACCOUNT_SCHEMA"):
        monkeypatch.setattr(schema, name, replace(getattr(schema, name), scripts=folder))
    return folder


@pytest.mark.parametrize(("words", "branch"), [((), "account"), (("--system",), "system")])
def test_draft_has_the_next_revision_number(
    harness: AppHarness, server: DatabaseServer, scratch_schemas: Path, words: tuple[str, ...], branch: str
) -> None:
    known = {"account": ACCOUNT_SCHEMA, "system": SYSTEM_SCHEMA}[branch]
    following = f"{branch}_{len(known.revisions) + 1:04}"
    last = sorted((scratch_schemas / branch).glob("*.py"))[-1]
    last.write_text(last.read_text().replace("def upgrade() -> None:\n", "def upgrade() -> None:\n    return\n"))
    before = databases(server)
    written = migrations(harness, "revision", "What the models have", *words)
    assert written.exit_code == 0, written.output
    path = scratch_schemas / branch / f"{following}_what_the_models_have.py"
    assert str(path) in written.output
    assert f'revision = "{following}"' in path.read_text().replace("'", '"')
    added = re.search(r"op\.(create_table|add_column)", path.read_text())
    assert added is not None, "the draft lacks what the emptied last revision no longer adds"
    assert databases(server) == before


def test_draft_without_model_changes_is_empty_and_reported(harness: AppHarness, scratch_schemas: Path) -> None:
    written = migrations(harness, "revision", "Fill a column")
    assert written.exit_code == 0, written.output
    assert "The models match the last revision" in written.stderr


def databases(server: DatabaseServer) -> set[str]:
    with server.maintenance() as maintenance:
        return set(maintenance.databases())


def test_message_without_a_letter_is_refused(harness: AppHarness, scratch_schemas: Path) -> None:
    before = sorted((scratch_schemas / "account").glob("*.py"))
    refused = migrations(harness, "revision", " … ")
    assert refused.exit_code == 2
    assert sorted((scratch_schemas / "account").glob("*.py")) == before
