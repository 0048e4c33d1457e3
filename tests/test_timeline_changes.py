"""A database server that continues on another timeline: it may have lost commits, so the journal is applied again."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import delete, make_url, select, text

import app as factory
from kataven import settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.personas import Persona, org_id
from kataven.identity.principal import Role
from kataven.operations import account_creation
from kataven.operations.account_creation import NewAccount
from kataven.operations.journal_replay import JournalReplayer
from kataven.system import server_histories, servers
from kataven.system.history_check import HistoryWatch
from kataven.system.models import JournalledKey, ServerHistory
from kataven.system.sessions import AccountSessions
from kataven.system.suitability import server_url
from kataven.tenancy import pg_connection
from kataven.tenancy.directory import Tenant
from kataven.tenancy.serving.histories import UNSETTLED_SECONDS, ServerHistories
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.web.services import EXTENSION, Services
from tests.support.app_harness import AppHarness, Caller, environ_for
from tests.support.clock import Clock
from tests.support.oidc import IssuerWithPen
from tests.support.servers import ask
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

DATABASE = "kataven_timelines"
ACCOUNT = "far"
OWNER = Persona("dora", "Dora", ACCOUNT, Role.OWNER)


@pytest.fixture(scope="module")
def far_server() -> Iterator[EmbeddedPostgres]:
    """A server with `wal_level = replica`: a recovery can start a new timeline on it."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    with EmbeddedPostgres(folder) as server:
        ask(server, "ALTER SYSTEM SET restore_command = 'false'")
        yield server
    shutil.rmtree(folder)


def start_timeline(server: EmbeddedPostgres) -> None:
    """Restart with a recovery, after which PostgreSQL continues on a new timeline, as a promoted replica does."""
    (folder,) = ask(server, "SHOW data_directory")[0]
    server.stop()
    (Path(str(folder)) / "recovery.signal").touch()
    server.start()
    wait_until(lambda: ask(server, "SELECT pg_is_in_recovery()") == [(False,)], 60)


@pytest.fixture(scope="module")
def far(
    far_server: EmbeddedPostgres,
    postgres: EmbeddedPostgres,
    shared_redis: EmbeddedRedis,
    issuer: IssuerWithPen,
    server_folder: Path,
) -> Iterator[AppHarness]:
    """A worker with the system database on one server, and the account on another."""
    environ = environ_for(postgres, shared_redis.url, issuer.url, DATABASE)
    environ |= {"KATAVEN_HOST_SLOTS_DIR": str(server_folder / "slots-far")}
    configured = settings.load(environ)
    account_creation.prepare_system(configured.database_url.get_secret_value())
    app = factory.create_api(configured)
    services: Services = app.extensions[EXTENSION]
    database = services.directory.database
    servers.add(database, "far", server_url(far_server.url("")), actor="test")
    account_creation.create(database, NewAccount(ACCOUNT, "Far", org_id(ACCOUNT), server="far"), actor="test")
    services.start()
    yield AppHarness(app, services, issuer, environ)
    services.stop()


def recorded_history(far: AppHarness) -> str | None:
    with far.services.directory.database.reading() as session:
        return session.scalar(select(ServerHistory.history).where(ServerHistory.server == "far"))


def test_new_timeline_is_reported_before_the_first_result(
    far_server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    histories = ServerHistories()
    changes: list[str] = []
    histories.subscribe(lambda: changes.append("cleared"))
    tenant = Tenant("somebody", make_url(far_server.url("postgres")))
    (identifier,) = ask(far_server, "SELECT system_identifier FROM pg_control_system()")[0]
    (timeline,) = ask(far_server, "SELECT timeline_id FROM pg_control_checkpoint()")[0]
    for registry in (EngineRegistry(histories=histories), EngineRegistry(histories=histories)):
        with registry.reading(tenant):
            pass
        registry.close()
    report = histories.next_report()
    assert report is not None
    assert report.history == f"{identifier}/{timeline}"
    assert histories.next_report() is None, "an unchanged history is reported once"
    assert (histories.changes, changes) == (0, [])

    start_timeline(far_server)
    registry = EngineRegistry(histories=histories)
    with caplog.at_level(logging.WARNING), registry.reading(tenant) as session:
        found = session.execute(text("SELECT 1"))
        assert (histories.changes, changes) == (1, ["cleared"])
        assert found.scalar_one() == 1
    registry.close()
    assert "has another history" in caplog.text
    report = histories.next_report()
    assert report is not None
    assert report.history != f"{identifier}/{timeline}"
    assert report.history.startswith(f"{identifier}/")


def test_server_that_does_not_report_its_history_is_served(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_connection, "_SESSION_WITH_HISTORY", "SELECT no_such_function()")
    histories = ServerHistories()
    registry = EngineRegistry(histories=histories)
    with registry.reading(Tenant("somebody", make_url(postgres.url("postgres")))) as session:
        assert session.scalar(text("SELECT 1")) == 1
    registry.close()
    assert histories.next_report() is None


@dataclass(frozen=True)
class LostKeys:
    """Two revoked keys whose commits are lost, and one that is valid."""

    api_key_id: str
    api_key: str = field(repr=False)
    widget_key_id: str
    spared: Caller

    def disabled_rows(self, server: EmbeddedPostgres) -> list[bool]:
        """Whether the API key and the widget key are disabled in the account's database."""
        tables = {"api_keys": self.api_key_id, "widget_keys": self.widget_key_id}
        query = "SELECT disabled_at IS NOT NULL FROM {} WHERE id = '{}'"
        return [bool(ask(server, query.format(*row), ACCOUNT)[0][0]) for row in tables.items()]


def lose_two_revocations(far: AppHarness, server: EmbeddedPostgres) -> LostKeys:
    owner = far.user(OWNER)
    key, spared = (owner.post("/v1/api-keys", {"name": name, "expiry": "30d"}).get_json() for name in ("CI", "Spared"))
    widget_key = owner.post("/v1/widget-keys", {"name": "Site", "domain_allowlist": ["acme.com"]}).get_json()
    assert "receipt" in owner.patch(f"/v1/api-keys/{key['id']}", {"disabled": True}).get_json()
    assert "receipt" in owner.patch(f"/v1/widget-keys/{widget_key['id']}", {"disabled": True}).get_json()
    ask(server, "UPDATE api_keys SET disabled_at = NULL", ACCOUNT)
    ask(server, "UPDATE widget_keys SET disabled_at = NULL, generation = 0", ACCOUNT)
    return LostKeys(key["id"], key["key"], widget_key["id"], far.bearer(spared["key"]))


def reapplied(far: AppHarness, lost: LostKeys) -> list[tuple[str, str, str]]:
    """The actor, action and target of the events that record a replay of these keys."""
    events = far.user(OWNER).get("/v1/audit-events?limit=100").get_json()
    return sorted(
        (event["actor"], event["action"], event["target"])
        for event in events
        if event["detail"].get("reapplied") and event["target"] in (lost.api_key_id, lost.widget_key_id)
    )


def expected_events(lost: LostKeys) -> list[tuple[str, str, str]]:
    return [
        ("system:journal", "api_key.revoked", lost.api_key_id),
        ("system:journal", "widget_key.disabled", lost.widget_key_id),
    ]


def test_keys_are_disabled_again_on_a_new_timeline(far: AppHarness, far_server: EmbeddedPostgres) -> None:
    lost = lose_two_revocations(far, far_server)
    assert lost.spared.get("/v1/me").status_code == 200
    wait_until(lambda: recorded_history(far) is not None, 60)
    before, gaps = recorded_history(far), far.services.revocation.stats.gaps
    changes = far.services.histories.changes
    start_timeline(far_server)
    # An agent's list needs a connection, and the first requests may meet the connections that the restart closed.
    wait_until(lambda: lost.spared.get("/v1/agents").status_code == 200, 60)
    wait_until(lambda: lost.disabled_rows(far_server) == [True, True], 60)
    wait_until(lambda: recorded_history(far) != before, 60)
    assert far.services.histories.changes == changes + 1
    assert far.services.revocation.stats.gaps > gaps
    assert far.bearer(lost.api_key).get("/v1/me").get_json()["code"] == "revoked_credential"
    assert lost.spared.get("/v1/me").status_code == 200
    assert reapplied(far, lost) == expected_events(lost)


def test_process_that_starts_after_the_failover_applies_the_journal(
    far: AppHarness, far_server: EmbeddedPostgres
) -> None:
    """For example if the product's hosts restart together with the database server."""
    lost = lose_two_revocations(far, far_server)
    wait_until(lambda: recorded_history(far) is not None, 60)
    far.services.journal_replay.stop()
    start_timeline(far_server)
    app = factory.create_api(settings.load(far.environ))
    services: Services = app.extensions[EXTENSION]
    services.start()
    try:
        started = AppHarness(app, services, far.issuer, far.environ)
        assert started.bearer(lost.api_key).get("/v1/me").get_json()["code"] == "revoked_credential"
        wait_until(lambda: lost.disabled_rows(far_server) == [True, True], 60)
        wait_until(lambda: services.histories.changes == 1, 60)
    finally:
        services.stop()
        assert far.services.journal_replay.start is not None
        far.services.journal_replay.start()
    assert reapplied(far, lost) == expected_events(lost)
    wait_until(lambda: lost.spared.get("/v1/agents").status_code == 200, 60)


def sessions_of(services: Services) -> AccountSessions:
    return AccountSessions(services.directory, services.registry)


def lose_journal_entries(far: AppHarness) -> None:
    with far.services.directory.database.autocommit() as session:
        session.execute(delete(JournalledKey).where(JournalledKey.account == ACCOUNT))


@pytest.fixture
def without_replayer(far: AppHarness) -> Iterator[None]:
    """The worker does not replay the journal."""
    far.services.journal_replay.stop()
    yield
    assert far.services.journal_replay.start is not None
    far.services.journal_replay.start()


@pytest.mark.usefixtures("without_replayer")
def test_failover_that_loses_the_journal_entry_too(far: AppHarness, far_server: EmbeddedPostgres) -> None:
    """As for an account on the server of the system database. Redis has the remaining record."""
    lost = lose_two_revocations(far, far_server)
    lose_journal_entries(far)
    start_timeline(far_server)
    wait_until(lambda: lost.spared.get("/v1/agents").status_code == 200, 60)
    assert lost.disabled_rows(far_server) == [False, False]
    assert far.bearer(lost.api_key).get("/v1/me").get_json()["code"] == "revoked_credential", "before the replay"
    services = far.services
    JournalReplayer(
        services.directory.database, sessions_of(services), services.revocation, services.histories
    ).handle_reports()
    assert lost.disabled_rows(far_server) == [True, True]
    assert reapplied(far, lost) == expected_events(lost)
    assert far.bearer(lost.api_key).get("/v1/me").get_json()["code"] == "revoked_credential", "after the replay"
    assert lost.spared.get("/v1/me").status_code == 200


@pytest.mark.usefixtures("without_replayer")
def test_commits_on_the_old_server_after_the_replay(far: AppHarness, far_server: EmbeddedPostgres) -> None:
    """A primary that was paused accepts commits until it is demoted. They are lost, after the first replay."""
    clock, services = Clock(), far.services
    first, second = (
        JournalReplayer(
            services.directory.database, sessions_of(services), services.revocation, services.histories, clock
        )
        for _ in range(2)
    )
    start_timeline(far_server)
    wait_until(lambda: far.user(OWNER).get("/v1/agents").status_code == 200, 60)
    first.handle_reports()
    lost = lose_two_revocations(far, far_server)
    lose_journal_entries(far)
    assert far.bearer(lost.api_key).get("/v1/me").get_json()["code"] == "revoked_credential"
    first.handle_reports()
    assert lost.disabled_rows(far_server) == [False, False], "the last replay is not due yet"
    clock.advance(UNSETTLED_SECONDS)
    first.handle_reports()
    assert lost.disabled_rows(far_server) == [True, True]
    assert reapplied(far, lost) == expected_events(lost)
    with services.directory.database.reading() as session:
        assert not server_histories.is_unsettled(session, "far")
    second.handle_reports()  # has nothing to do


def a_tenant(far: AppHarness) -> Tenant:
    record = far.services.directory.read(ACCOUNT)
    assert record is not None
    return record.tenant


def test_process_that_does_not_replay_compares_the_histories(far: AppHarness) -> None:
    """As the auth-service does. Until the comparison, each verification reads Redis's record."""
    wait_until(lambda: recorded_history(far) is not None, 60)
    recorded, database = recorded_history(far), far.services.directory.database
    assert recorded is not None
    for history, changed in ((recorded, server_is_unsettled(far)), ("another/9", True)):
        histories = ServerHistories()
        histories.observe(a_tenant(far), history)
        assert (histories.may_have_changed(), histories.changed_recently()) == (True, False)
        HistoryWatch(database, histories).handle_reports()
        assert (histories.may_have_changed(), histories.changed_recently()) == (changed, changed)
    assert recorded_history(far) == recorded


def server_is_unsettled(far: AppHarness) -> bool:
    with far.services.directory.database.reading() as session:
        return server_histories.is_unsettled(session, "far")


@pytest.mark.usefixtures("without_replayer")
def test_without_the_tables_of_the_journal_nothing_is_replayed(
    far: AppHarness, postgres: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    """On a system database that is not migrated to `system_0007` yet."""
    services, histories = far.services, ServerHistories()
    histories.observe(a_tenant(far), "another/1")
    ask(postgres, "ALTER TABLE server_histories RENAME TO not_migrated", DATABASE)
    try:
        JournalReplayer(
            services.directory.database, sessions_of(services), services.revocation, histories
        ).handle_reports()
    finally:
        ask(postgres, "ALTER TABLE not_migrated RENAME TO server_histories", DATABASE)
    assert (histories.next_report(), histories.changes) == (None, 0)
    assert "journal" not in caplog.text


def test_only_one_process_replays(far: AppHarness) -> None:
    with far.services.directory.database.autocommit() as session:
        assert server_histories.claim(session, "far")
        assert not server_histories.claim(session, "far")
        server_histories.release(session, "far")
        assert server_histories.claim(session, "far")
        server_histories.release(session, "far")
