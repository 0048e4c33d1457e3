"""The state of a migration run: recorded by its process, converted by the upgrade, and derived for the old release."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import make_url

import app as factory
from kataven import settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import Persona, org_id
from kataven.identity.principal import Role
from kataven.operations import account_creation, migration_runs
from kataven.operations.account_creation import NewAccount
from kataven.operations.migration_runs import RunRequest
from kataven.system import schema, servers
from kataven.system.database import SystemDatabase
from kataven.system.errors import RunUnderWay, SystemSchemaBehind
from kataven.system.models import RunState
from kataven.system.schema import OLDEST_SYSTEM_SERVED, SYSTEM_SCHEMA
from kataven.tenancy.migrations.report import AccountResult, MigrationOutcome
from kataven.tenancy.server import DatabaseServer
from kataven.web.services import EXTENSION, Services
from tests.support.app_harness import AppHarness
from tests.support.servers import ask

NAME = "kataven_run_states"
COLUMNS = "id, actor, target, options, open, began_at, error, counts"
OPTIONS = '{"jobs": 8, "canaries": 1, "max_failures": 5}'


@dataclass(frozen=True)
class Place:
    """A system database of this module's own, at any of the served revisions."""

    postgres: EmbeddedPostgres
    database: SystemDatabase

    def recreate(self, revision: str) -> None:
        server = DatabaseServer(make_url(self.postgres.url("postgres")))
        self.database.close()
        with server.maintenance() as maintenance:
            maintenance.drop(NAME)
            maintenance.create(NAME, "template0")
        with server.connect(NAME) as connection:
            SYSTEM_SCHEMA.upgrade(connection, revision)
        with self.database.writing() as session:
            servers.ensure_default(session)

    def upgrade(self) -> None:
        schema.upgrade_system(self.postgres.url(NAME))

    def say(self, statement: str) -> list[tuple[object, ...]]:
        return ask(self.postgres, statement, NAME)

    def insert(self, opened: str, began_at: str, error: str, counts: str) -> None:
        """A row as a process of the previous release leaves it."""
        values = f"gen_random_uuid(), 'old', 'account_0002', '{OPTIONS}', {opened}, {began_at}, {error}, '{counts}'"
        self.say(f"INSERT INTO migration_runs ({COLUMNS}) VALUES ({values})")

    def state(self) -> object:
        return self.say("SELECT state FROM migration_runs ORDER BY asked_at DESC LIMIT 1")[0][0]

    def shown(self) -> RunState | None:
        with self.database.reading() as session:
            found = migration_runs.latest(session)
        return found and found.state


@pytest.fixture
def place(postgres: EmbeddedPostgres) -> Iterator[Place]:
    place = Place(postgres, SystemDatabase(postgres.url(NAME)))
    yield place
    place.database.close()


@pytest.mark.parametrize(
    ("opened", "began_at", "error", "counts", "state"),
    [
        ("true", "NULL", "NULL", "{}", RunState.STARTING),
        ("true", "now()", "NULL", '{"migrated": 2}', RunState.RUNNING),
        ("NULL", "now()", "NULL", '{"migrated": 2, "current": 1}', RunState.DONE),
        ("NULL", "now()", "NULL", "{}", RunState.DONE),
        ("NULL", "now()", "NULL", '{"migrated": 2, "failed": 1}', RunState.FAILED),
        ("NULL", "now()", "NULL", '{"skipped": 1}', RunState.FAILED),
        ("NULL", "NULL", "'never started'", "{}", RunState.FAILED),
        ("NULL", "now()", "'stopped on the way'", '{"failed": 1}', RunState.STOPPED),
    ],
)
def test_upgrade_converts_the_runs_of_the_previous_release(
    place: Place, opened: str, began_at: str, error: str, counts: str, state: RunState
) -> None:
    place.recreate("system_0005")
    place.insert(opened, began_at, error, counts)
    place.upgrade()
    assert place.state() == state


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ("error = NULL, counts = '{\"migrated\": 1}'", RunState.DONE),
        ("error = NULL, counts = '{\"failed\": 1}'", RunState.FAILED),
        ("error = 'stopped on the way'", RunState.STOPPED),
    ],
)
def test_run_of_the_previous_release_keeps_its_state_during_a_rollout(place: Place, end: str, state: RunState) -> None:
    place.recreate("system_0005")
    place.insert("true", "NULL", "NULL", "{}")
    place.upgrade()
    place.say("UPDATE migration_runs SET began_at = now(), told_at = now()")
    assert place.state() == RunState.RUNNING
    place.say("UPDATE migration_runs SET counts = '{\"migrated\": 1}', told_at = now()")
    assert place.state() == RunState.RUNNING
    place.say(f"UPDATE migration_runs SET open = NULL, ended_at = now(), {end}")
    assert place.state() == place.shown() == state


def test_process_records_the_state_of_its_run(place: Place) -> None:
    place.recreate("system_0005")
    place.upgrade()
    with migration_runs.executing(place.database, request(place)) as recorder:
        assert place.state() == place.shown() == RunState.RUNNING
        recorder.add(AccountResult("acme", MigrationOutcome.MIGRATED))
    assert place.state() == RunState.DONE
    with migration_runs.executing(place.database, request(place)) as recorder:
        recorder.add(AccountResult("acme", MigrationOutcome.SKIPPED))
    assert place.state() == RunState.FAILED
    with pytest.raises(KeyboardInterrupt), migration_runs.executing(place.database, request(place)):
        raise KeyboardInterrupt
    assert place.state() == RunState.STOPPED
    migration_runs.cancel(place.database, request(place), "no such program")
    assert place.state() == RunState.FAILED


def test_run_whose_process_crashed_is_stopped_and_closed_by_the_next_request(place: Place) -> None:
    place.recreate("system_0005")
    place.upgrade()
    crashed = request(place)
    place.say("UPDATE migration_runs SET state = 'running', began_at = now()")  # and no process holds the lock
    assert place.shown() is RunState.STOPPED
    assert place.state() == RunState.RUNNING, "reading the state must not change it"
    with pytest.raises(RunUnderWay), migration_runs.executing(place.database, crashed):
        pass
    request(place)
    assert place.say("SELECT state, open FROM migration_runs ORDER BY asked_at") == [
        ("stopped", None),
        ("starting", True),
    ]


def request(place: Place) -> UUID:
    return migration_runs.request(place.database, "test", RunRequest())


def test_release_is_ready_before_the_system_database_is_upgraded(place: Place, harness: AppHarness) -> None:
    place.recreate(OLDEST_SYSTEM_SERVED)
    app = app_on(place, harness)
    try:
        assert app.test_client().get("/readyz").status_code == 200
        run = app.test_cli_runner().invoke
        assert run(args=["accounts", "list"]).exit_code == 0
        refused = run(args=["migrations", "upgrade", "--all"])
        assert refused.exit_code == 1
        assert "at system_0005, but this operation needs system_0006" in refused.stderr
        assert "flask migrations upgrade --system" in refused.stderr
        place.insert("true", "NULL", "NULL", "{}")
        run_id = place.say("SELECT id FROM migration_runs")[0][0]
        refused = run(args=["migrations", "carry-out", str(run_id)])
        assert (refused.exit_code, "needs system_0006" in refused.stderr) == (1, True)
        assert place.shown() is None
        with pytest.raises(SystemSchemaBehind):
            request(place)
        place.upgrade()
        assert run(args=["migrations", "upgrade", "--all"]).exit_code == 1  # the other run may still start
    finally:
        app.extensions[EXTENSION].stop()


def test_keys_are_revoked_before_the_journal_exists(place: Place, harness: AppHarness) -> None:
    place.recreate(OLDEST_SYSTEM_SERVED)
    account_creation.create(place.database, NewAccount("unjournalled", "x", org_id("unjournalled")), actor="test")
    app = app_on(place, harness)
    services: Services = app.extensions[EXTENSION]
    services.start()
    worker = dataclasses.replace(harness, app=app, services=services)
    try:
        owner = worker.user(Persona("dora", "Dora", "unjournalled", Role.OWNER))
        for upgraded in (False, True):
            key = owner.post("/v1/api-keys", {"name": "CI", "expiry": "30d"}).get_json()
            assert worker.bearer(key["key"]).get("/v1/me").status_code == 200
            assert "receipt" in owner.patch(f"/v1/api-keys/{key['id']}", {"disabled": True}).get_json()
            assert worker.bearer(key["key"]).get("/v1/me").status_code == 403
            assert services.revocation.stats.journal_missed == 0
            place.upgrade()
            assert len(place.say("SELECT * FROM revoked_keys")) == upgraded
    finally:
        services.stop()


def app_on(place: Place, harness: AppHarness) -> Flask:
    return factory.create_api(settings.load({**harness.environ, "KATAVEN_DATABASE_URL": place.postgres.url(NAME)}))
