"""Databases of an older release are migrated to this code's schema."""

from __future__ import annotations

import runpy

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import NullPool, create_engine, text

from kataven.dev import seed
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.operations import account_creation, account_migrations
from kataven.system.database import SystemDatabase
from kataven.system.schema import ACCOUNT_SCHEMA
from tests.support.app_harness import environ_for
from tests.support.gunicorn import CHECKOUT
from tests.support.servers import ask

REVISIONS = CHECKOUT / "alembic" / "account"


def test_accounts_of_an_older_release_are_migrated(postgres: EmbeddedPostgres, redis_url: str) -> None:
    environ = environ_for(postgres, redis_url, "http://127.0.0.1:1", "kataven_older")
    seed.migrate(environ)
    database = SystemDatabase(postgres.url("kataven_older"))
    try:
        account_creation.create(database, account_creation.NewAccount("seeded-earlier", "Earlier"), actor="test")
        downgrade(postgres, "kataven_older", "seeded-earlier")
        assert seed.migrate(environ) == {}
        [state] = account_migrations.status(database, account_migrations.tenants(database), 1)
        assert (state.revision, state.drifted) == (ACCOUNT_SCHEMA.head, False)
    finally:
        database.close()


def downgrade(postgres: EmbeddedPostgres, database: str, account: str, *statements: str) -> None:
    """Downgrade an account to the first revision, and run further statements on its database."""
    engine = create_engine(postgres.url(account), poolclass=NullPool)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        for path in sorted(REVISIONS.glob("account_*.py"), reverse=True)[:-1]:
            runpy.run_path(str(path))["downgrade"]()
        for statement in ("UPDATE alembic_version SET version_num = 'account_0001'", *statements):
            connection.execute(text(statement))
    ask(postgres, f"UPDATE accounts SET schema_revision = 'account_0001' WHERE account_id = '{account}'", database)


def set_unknown_revision(postgres: EmbeddedPostgres, database: str, account: str) -> None:
    """Set an account to a revision that this code does not have."""
    ask(postgres, "UPDATE alembic_version SET version_num = 'account_9999'", account)
    ask(postgres, f"UPDATE accounts SET schema_revision = 'account_9999' WHERE account_id = '{account}'", database)


def test_accounts_that_cannot_be_migrated_are_reported_and_others_are_migrated(
    postgres: EmbeddedPostgres, redis_url: str
) -> None:
    environ = environ_for(postgres, redis_url, "http://127.0.0.1:1", "kataven_stuck")
    seed.migrate(environ)
    database = SystemDatabase(postgres.url("kataven_stuck"))
    names = ["stuck-a", "stuck-b", "stuck-c", "stuck-d"]
    try:
        for name in names:
            account_creation.create(database, account_creation.NewAccount(name, name), actor="test")
        downgrade(postgres, "kataven_stuck", "stuck-a", "CREATE TABLE widget_settings (id smallint)")
        downgrade(postgres, "kataven_stuck", "stuck-b")
        ask(postgres, "UPDATE alembic_version SET version_num = 'account_9999'", "stuck-c")
        ask(
            postgres,
            "UPDATE accounts SET schema_revision = 'account_9999' WHERE account_id = 'stuck-c'",
            "kataven_stuck",
        )
        downgrade(postgres, "kataven_stuck", "stuck-d")
        closed = seed.migrate(environ)
        assert set(closed) == {"stuck-a", "stuck-c"}
        assert 'relation "widget_settings" already exists' in closed["stuck-a"]
        assert "account_9999 is unknown to this release" in closed["stuck-c"]
        states = {
            state.account: state.revision
            for state in account_migrations.status(database, account_migrations.tenants(database), 1)
        }
        assert (states["stuck-b"], states["stuck-d"]) == (ACCOUNT_SCHEMA.head, ACCOUNT_SCHEMA.head)
    finally:
        database.close()


def test_unavailable_sample_account_keeps_its_keys_and_the_other_is_seeded(
    postgres: EmbeddedPostgres, redis_url: str
) -> None:
    environ = environ_for(postgres, redis_url, "http://127.0.0.1:1", "kataven_seeded")
    environ["KATAVEN_DATABASE_URL"] = postgres.url("kataven_seeded")
    seed.migrate(environ)
    # Other tests' databases on this server are named acme and globex.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seed, "ACCOUNT_NAMES", {"seeded-acme": "Acme", "seeded-globex": "Globex"})
        patch.setattr(seed, "_AGENTS", {"seeded-acme": [], "seeded-globex": []})
        first = seed.seed(environ, {})
        assert first.unavailable == {}
        set_unknown_revision(postgres, "kataven_seeded", "seeded-acme")
        known = {one.account: one for one in first.accounts}
        again = seed.seed(environ, known)
        assert "account_9999" in again.unavailable["seeded-acme"]
        assert again.accounts == first.accounts
        without = seed.seed(environ, {})
        assert [one.account for one in without.accounts] == ["seeded-globex"]
