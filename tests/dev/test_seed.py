"""What a run finds from an older release is brought to this code's schema."""

from __future__ import annotations

from kataven.dev import seed
from kataven.dev.postgres import EmbeddedPostgres
from kataven.system import lifecycle, migrations
from kataven.system.database import SystemDatabase
from kataven.system.schema import ACCOUNT_SCHEMA
from tests.support.house import environ_for
from tests.support.servers import ask


def test_accounts_of_an_older_release_are_migrated(postgres: EmbeddedPostgres, redis_url: str) -> None:
    environ = environ_for(postgres, redis_url, "http://127.0.0.1:1", "kataven_older")
    seed.prepare(environ)
    database = SystemDatabase(postgres.url("kataven_older"))
    try:
        lifecycle.create(database, lifecycle.NewAccount("seeded-earlier", "Earlier"), actor="test")
        for statement in (
            "DROP TABLE widget_settings",
            "ALTER TABLE widget_keys DROP COLUMN generation",
            "UPDATE alembic_version SET version_num = 'account_0001'",
        ):
            ask(postgres, statement, "seeded-earlier")
        ask(postgres, "UPDATE accounts SET schema_revision = 'account_0001'", "kataven_older")
        seed.prepare(environ)
        [state] = migrations.status(database, migrations.tenants(database), 1)
        assert (state.revision, state.drifted) == (ACCOUNT_SCHEMA.head, False)
    finally:
        database.close()
