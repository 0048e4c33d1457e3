"""Tables of an application in the databases of accounts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from kataven.operations import account_migrations
from kataven.tenancy.directory import Tenant
from kataven.tenancy.migrations.app_tables import AppTables
from tests.support.app_harness import AppHarness, new_account
from tests.support.gunicorn import CHECKOUT

FOLDER = CHECKOUT / "examples" / "notes_flask"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> AppTables:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "models", raising=False)
    return AppTables("notes", FOLDER / "migrations", "models:Base.metadata")


def test_tables_are_upgraded_once_and_are_no_drift(harness: AppHarness, tables: AppTables) -> None:
    database = harness.services.directory.database
    new_account(harness.services, "tabled")
    [tenant] = account_migrations.tenants(database, ["tabled"])
    assert [tables.upgrade(tenant) for _ in range(2)] == ["notes_0001", "notes_0001"]
    with harness.services.registry.reading(tenant) as session:
        assert session.scalar(text("SELECT count(*) FROM notes.notes")) == 0
        assert session.scalar(text("SELECT version_num FROM notes.alembic_version")) == "notes_0001"
    [state] = account_migrations.status(database, [tenant], jobs=1)
    assert state.drifted is False


def test_unreachable_account_does_not_keep_others_from_being_upgraded(harness: AppHarness, tables: AppTables) -> None:
    [acme] = account_migrations.tenants(harness.services.directory.database, ["acme"])
    lost = Tenant("lost", make_url("postgresql+psycopg2://127.0.0.1:1/lost"))
    results = {result.account: result for result in tables.upgrade_all([lost, acme])}
    assert results["acme"].revision == "notes_0001"
    assert results["lost"].revision is None
    assert results["lost"].error


@pytest.mark.parametrize("name", ["public", "pg_notes", "Notes", "", 'n"; DROP', "tenancy_canary"])
def test_name_that_can_not_be_a_schema_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="can't be the schema of an application"):
        AppTables(name, Path(), "models:Base.metadata")
