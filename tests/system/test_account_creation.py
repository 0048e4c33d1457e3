"""Creating an account creates both the row and the database, or neither."""

from __future__ import annotations

from typing import NoReturn

import pytest
from sqlalchemy import create_engine, text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.operations import account_creation, database_repair
from kataven.operations.account_creation import NewAccount
from kataven.operations.operator import Operator
from kataven.system import accounts
from kataven.system.errors import AccountExists, NoSuchAccount, NoSuchServer
from kataven.system.models import Account, AccountStatus
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.databases.provision import Reservation
from kataven.tenancy.errors import DatabaseExists, InvalidAccountName, ProvisioningError, ReservedAccountName
from kataven.tenancy.server import Maintenance
from tests.support.app_harness import AppHarness


def databases(postgres: EmbeddedPostgres) -> set[str]:
    engine = create_engine(postgres.url("postgres"))
    try:
        with engine.connect() as connection:
            return set(connection.scalars(text("SELECT datname FROM pg_database")))
    finally:
        engine.dispose()


def create(harness: AppHarness, account: str, **fields: str) -> None:
    account_creation.create(harness.services.directory.database, NewAccount(account, account, **fields), actor="test")


def is_known(harness: AppHarness, account: str) -> bool:
    with harness.services.directory.database.reading() as session:
        try:
            accounts.read(session, account)
        except NoSuchAccount:
            return False
    return True


def test_account_has_a_row_and_its_own_database(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    create(harness, "whole")
    record = harness.services.directory.read("whole")
    assert record is not None
    assert record.open
    assert record.tenant.revision == ACCOUNT_SCHEMA.head
    assert "whole" in databases(postgres)
    assert harness.bearer(harness.new_key("whole")).get("/v1/agents").get_json() == []


@pytest.mark.parametrize("step", ["create", "rename"])
def test_failed_creation_leaves_nothing(
    harness: AppHarness, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    create(harness, f"warm-{step}")  # so that the template already exists
    before = databases(postgres)

    def fail(*_: object) -> NoReturn:
        raise ProvisioningError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Maintenance, step, fail)
        with pytest.raises(ProvisioningError, match="the disk is full"):
            create(harness, f"half-{step}")
    assert databases(postgres) == before
    assert not is_known(harness, f"half-{step}")
    create(harness, f"half-{step}")


def test_interrupted_creation_leaves_nothing(
    harness: AppHarness, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = databases(postgres)

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Reservation, "create", interrupt)
        with pytest.raises(KeyboardInterrupt):
            create(harness, "interrupted")
    assert databases(postgres) == before
    assert not is_known(harness, "interrupted")


@pytest.mark.parametrize(
    "name", ["kataven-admin", "kataven_system", "postgres", "template0", "template1", "pg_x", "kataven_template_x"]
)
def test_reserved_names_are_refused(harness: AppHarness, name: str) -> None:
    with pytest.raises(ReservedAccountName):
        create(harness, name)


@pytest.mark.parametrize("name", ["", "Acme", "a" * 64, 'x"; DROP DATABASE acme; --', "ä", "a/b", "-a"])
def test_invalid_names_are_refused(harness: AppHarness, name: str) -> None:
    with pytest.raises(InvalidAccountName):
        create(harness, name)


def test_existing_name_is_refused(harness: AppHarness) -> None:
    create(harness, "taken")
    with pytest.raises(AccountExists):
        create(harness, "taken")
    assert harness.services.directory.read("taken") is not None


def test_organisation_belongs_to_one_account(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    create(harness, "org-first", org_id="org-shared")
    with pytest.raises(AccountExists):
        create(harness, "org-second", org_id="org-shared")
    assert "org-second" not in databases(postgres)


def test_existing_database_is_not_taken_over(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    engine = create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text('CREATE DATABASE "legacy"'))
    engine.dispose()
    with pytest.raises(DatabaseExists):
        create(harness, "legacy")
    assert "legacy" in databases(postgres)
    assert not is_known(harness, "legacy")


def test_unknown_server_is_refused(harness: AppHarness) -> None:
    with pytest.raises(NoSuchServer):
        create(harness, "nowhere", server="mars")


def test_crash_between_row_and_database_is_repaired(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    """`kill -9` leaves a row in `provisioning`, with or without its database."""
    database = harness.services.directory.database
    create(harness, "was-whole")
    with database.writing() as session:
        accounts.read(session, "was-whole").status = AccountStatus.PROVISIONING
        accounts.reserve(
            session,
            Account(account_id="was-nothing", account_name="x", database_name="was-nothing", server="default"),
        )
    assert harness.services.directory.read("was-whole") is None
    operator = Operator("test", harness.services)
    repaired = [found.repair for found in database_repair.repair_all(operator) if found.repair]
    found = {repair.orphan.account: repair for repair in repaired}
    assert found["was-whole"].done
    assert found["was-nothing"].done
    assert harness.services.directory.read("was-whole") is not None
    assert not is_known(harness, "was-nothing")
    create(harness, "was-nothing")
