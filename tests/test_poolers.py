"""The product behind PgBouncer, in transaction and in session mode, behaves as without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import Result
from sqlalchemy import TextClause, delete, make_url, text
from sqlalchemy.orm import Session

import app as factory
from kataven import assembly, settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.dev.external import require_postgres
from kataven.dev.personas import Persona, org_id
from kataven.identity.principal import Role
from kataven.operations import account_creation
from kataven.settings import SettingsError
from kataven.system import accounts, limits
from kataven.system.models import Account, RegisteredServer
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.hosts import only_primary
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.pooled_connection import PooledCursor
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.templates import Templates
from kataven.web.services import EXTENSION, Services
from tests.support.app_harness import PLENTY, AppHarness, Caller, environ_for
from tests.support.gunicorn import Gunicorn
from tests.support.oidc import IssuerWithPen
from tests.support.pgbouncer import POOL_MODES, PgBouncer
from tests.support.servers import ask
from tests.support.session_statements import SESSION_DEPENDENT
from tests.support.waiting import wait_until
from tests.tenancy.conftest import scratch_server

pytestmark = pytest.mark.pgbouncer  # `make poolers`

REVOCATIONS = 20
SHORT = ConnectionSettings(
    statement_timeout_seconds=0.3, lock_timeout_seconds=0.1, idle_in_transaction_timeout_seconds=0.2
)


@dataclass(frozen=True)
class Deployment:
    """The product in one process, behind a PgBouncer unless `pooler` is None."""

    mode: str
    harness: AppHarness
    server: EmbeddedPostgres
    pooler: PgBouncer | None
    statements: list[str] = field(repr=False)
    """Every statement sent through a pooler."""

    @property
    def account(self) -> str:
        return f"acme-{self.mode}"

    @property
    def owner(self) -> Caller:
        return self.harness.user(Persona("alice", "Alice", self.account, Role.OWNER))

    @property
    def tenant(self) -> Tenant:
        record = self.harness.services.directory.read(self.account)
        assert record is not None
        return record.tenant

    def flask(self, *words: str, given: str | None = None) -> Result:
        return self.harness.app.test_cli_runner().invoke(args=list(words), input=given)

    def run_json(self, *words: str, given: str | None = None) -> Any:
        result = self.flask(*words, "--json", given=given)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def new_key(self) -> tuple[str, Caller]:
        answer = self.owner.post("/v1/api-keys", {"name": "CI", "expiry": "30d"})
        assert answer.status_code == 201, answer.get_json()
        return answer.get_json()["id"], self.harness.bearer(answer.get_json()["key"])


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with scratch_server() as server:
        yield server


@pytest.fixture(scope="module", params=["none", "transaction", "session"])
def deployment(
    request: pytest.FixtureRequest,
    server: EmbeddedPostgres,
    shared_redis: EmbeddedRedis,
    issuer: IssuerWithPen,
    server_folder: Path,
) -> Iterator[Deployment]:
    mode, database = request.param, f"kataven_{request.param}"
    environ = environ_for(server, shared_redis.url, issuer.url, database)
    environ |= {
        "KATAVEN_HOST_SLOTS_DIR": str(server_folder / f"slots-{mode}"),
        "KATAVEN_DUMP_DIR": str(server_folder / f"dumps-{mode}"),
    }
    pooler = None if mode == "none" else PgBouncer(server, mode)
    with pytest.MonkeyPatch.context() as patch:
        statements = _record(patch)
        if pooler is not None:
            pooler.start()
            environ |= {
                "KATAVEN_DATABASE_URL": pooler.url(database),
                "KATAVEN_DIRECT_DATABASE_URL": server.url(database),
            }
        app = factory.create_api(settings.load(environ))
        services: Services = app.extensions[EXTENSION]
        found = Deployment(mode, AppHarness(app, services, issuer, environ), server, pooler, statements)
        try:
            upgraded = found.flask("migrations", "upgrade", "--system")
            assert upgraded.exit_code == 0, upgraded.output
            services.start()
            found.run_json("accounts", "create", found.account, "--org-id", org_id(found.account))
            with services.directory.database.writing() as session:
                limits.change(session, found.account, PLENTY)
            yield found
        finally:
            services.stop()
            if pooler is not None:
                pooler.__exit__(None, None, None)


def _record(patch: pytest.MonkeyPatch) -> list[str]:
    statements: list[str] = []
    run = PooledCursor._run

    def recording(cursor: PooledCursor, execute: Any, query: Any, values: Any) -> None:
        statements.append(str(query))
        run(cursor, execute, query, values)

    patch.setattr(PooledCursor, "_run", recording)
    return statements


def test_requests_are_served(deployment: Deployment) -> None:
    assert deployment.harness.services.directory.database.pooled is (deployment.pooler is not None)
    _, caller = deployment.new_key()
    agent = caller.post("/v1/agents", {"name": "Front desk"}).get_json()
    assert caller.patch(f"/v1/agents/{agent['id']}", {"description": "x"}).status_code == 200
    assert [found["name"] for found in caller.get("/v1/agents").get_json()] == ["Front desk"]
    assert caller.post("/v1/agents", {"name": "Front desk"}).status_code in (201, 409)
    assert caller.delete(f"/v1/agents/{agent['id']}").status_code == 204


def test_account_is_migrated(deployment: Deployment) -> None:
    name, oldest = f"old-{deployment.mode}", ACCOUNT_SCHEMA.window[0]
    deployment.run_json("accounts", "create", name)
    database = deployment.harness.services.directory.database
    _, direct = account_creation.find(database, name)
    with direct.maintenance() as maintenance:
        template = Templates(direct, ACCOUNT_SCHEMA).ensure(maintenance, oldest)
        maintenance.drop(name)
        maintenance.create(name, template)
    with database.writing() as session:
        accounts.read(session, name).schema_revision = oldest
    (row,) = deployment.run_json("migrations", "upgrade", "--account", name)
    assert (row["outcome"], row["from"], row["to"]) == ("migrated", oldest, ACCOUNT_SCHEMA.head)
    (state,) = deployment.run_json("migrations", "status", "--account", name)
    assert (state["revision"], state["drifted"]) == (ACCOUNT_SCHEMA.head, False)


def test_revoked_keys_are_refused_after_their_receipts(deployment: Deployment) -> None:
    keys = [deployment.new_key() for _ in range(REVOCATIONS)]
    receipts: dict[str, float] = {}
    accepted: list[tuple[str, float]] = []
    others: list[tuple[int, str]] = []
    stop = threading.Event()

    def hammer(number: int) -> None:
        while not stop.is_set():
            for key_id, caller in keys[number::2]:
                started = time.monotonic()
                answer = caller.get("/v1/me")
                if answer.status_code == 200:
                    accepted.append((key_id, started))
                elif (answer.status_code, answer.get_json()["code"]) != (403, "revoked_credential"):
                    others.append((answer.status_code, answer.get_json()["code"]))

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len({key_id for key_id, _ in accepted}) == REVOCATIONS, 60)
        for key_id, _ in keys:
            answer = deployment.owner.patch(f"/v1/api-keys/{key_id}", {"disabled": True})
            assert answer.get_json()["receipt"]["acknowledged"] >= 1
            receipts[key_id] = time.monotonic()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    late = [key_id for key_id, started in accepted if started > receipts[key_id]]
    assert (late, others) == ([], [])
    assert {caller.get("/v1/me").status_code for _, caller in keys} == {403}


def test_account_is_suspended_dumped_loaded_deleted_and_restored(deployment: Deployment) -> None:
    name = f"moved-{deployment.mode}"
    deployment.run_json("accounts", "create", name)
    caller = deployment.harness.bearer(deployment.harness.new_key(name))
    assert caller.post("/v1/agents", {"name": "Concierge"}).status_code == 201
    dump = deployment.run_json("accounts", "dump", name)["dump"]
    assert caller.post("/v1/agents", {"name": "Later"}).status_code == 201
    assert deployment.run_json("accounts", "suspend", name)["acknowledged"] >= 1
    assert caller.get("/v1/agents").status_code == 403
    loaded = deployment.flask("accounts", "load", name, "--from", dump, "--yes-replace", name, "--json")
    assert loaded.exit_code == 0, loaded.output
    deployment.run_json("accounts", "resume", name)
    wait_until(lambda: caller.get("/v1/agents").status_code == 200, 30)
    assert [agent["name"] for agent in caller.get("/v1/agents").get_json()] == ["Concierge"]
    deleted = deployment.run_json("accounts", "delete", name, "--yes-delete", name)
    assert caller.get("/v1/agents").status_code == 401
    deployment.run_json("accounts", "restore", name, "--from", deleted["dump"])
    wait_until(lambda: caller.get("/v1/agents").status_code == 200, 30)
    assert [agent["name"] for agent in caller.get("/v1/agents").get_json()] == ["Concierge"]


def test_timeouts_are_honoured(deployment: Deployment) -> None:
    registry = EngineRegistry(connection_settings=SHORT)
    tenant, slow = deployment.tenant, text("SELECT pg_sleep(60)")
    with pytest.raises(TenantUnavailable, match="a statement took too long"), registry.reading(tenant) as session:
        session.execute(slow)
    assert failure(registry, tenant, lambda session: session.execute(slow)) == "a statement took too long"
    holder = psycopg2.connect(deployment.server.url(deployment.account).replace("+psycopg2", ""))
    try:
        holder.cursor().execute("LOCK TABLE agents")
        for opened in (registry.reading, registry.writing):
            with (
                pytest.raises(TenantUnavailable, match="a lock was not available in time"),
                opened(tenant) as session,
            ):
                session.execute(text("SELECT * FROM agents"))
    finally:
        holder.close()

    def wait_for_termination(session: Session) -> None:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        wait_until(lambda: (pid,) not in ask(deployment.server, "SELECT pid FROM pg_stat_activity"), 30)

    assert failure(registry, tenant, wait_for_termination) == "the connection was lost"
    registry.close()


def failure(registry: EngineRegistry, tenant: Tenant, act: Callable[[Session], object]) -> str:
    """Why a transaction fails in `act`, or in the statement after it."""
    with pytest.raises(TenantUnavailable) as refused, registry.writing(tenant) as session:
        _act(session, act)
    return refused.value.reason


def _act(session: Session, act: Callable[[Session], object]) -> None:
    session.execute(text("SELECT 1"))
    act(session)
    session.execute(text("SELECT 1"))


def test_sessions_have_utc_and_read_committed(deployment: Deployment) -> None:
    """Whatever the server's defaults are."""
    database = deployment.account
    ask(deployment.server, f"ALTER DATABASE \"{database}\" SET timezone = 'Asia/Tokyo'")
    ask(deployment.server, f"ALTER DATABASE \"{database}\" SET default_transaction_isolation = 'serializable'")
    _, direct = account_creation.find(deployment.harness.services.directory.database, database)
    with direct.maintenance() as maintenance:
        maintenance.disconnect(database)
    registry = EngineRegistry()
    shown = text("SELECT current_setting('timezone'), current_setting('transaction_isolation')")
    try:
        for opened in (registry.reading, registry.writing, registry.autocommit):
            with opened(deployment.tenant) as session:
                assert session.execute(shown).one() == ("UTC", "read committed")
    finally:
        registry.close()
        ask(deployment.server, f'ALTER DATABASE "{database}" RESET ALL')


def test_database_made_read_only_refuses_writes(deployment: Deployment) -> None:
    """As while an account is deleted. The checks of a pooled transaction must not undo this."""
    _, direct = account_creation.find(deployment.harness.services.directory.database, deployment.account)
    registry = EngineRegistry()
    with direct.maintenance() as maintenance:
        maintenance.set_read_only(deployment.account, read_only=True)
        try:
            with pytest.raises(TenantUnavailable, match="read-only"), registry.autocommit(deployment.tenant) as session:
                session.execute(text("DELETE FROM agents"))
        finally:
            maintenance.set_read_only(deployment.account, read_only=False)
    registry.close()


def test_killed_pooler_returns_503_until_it_is_back(deployment: Deployment) -> None:
    if deployment.pooler is None:
        pytest.skip("no pooler")
    _, caller = deployment.new_key()
    assert caller.get("/v1/agents").status_code == 200
    deployment.pooler.kill()
    try:
        answer = caller.get("/v1/agents")
        assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
        assert deployment.harness.caller().get("/readyz").status_code == 503
    finally:
        deployment.pooler.start()
    wait_until(lambda: caller.get("/v1/agents").status_code == 200, 60)
    wait_until(lambda: deployment.harness.caller().get("/readyz").status_code == 200, 60)


def test_status_names_the_pooler(deployment: Deployment) -> None:
    pooled = deployment.pooler is not None
    checks = deployment.harness.caller().get("/readyz", environ_base={"REMOTE_ADDR": "127.0.0.1"}).get_json()["checks"]
    assert checks["system_database"] == "ok"
    assert checks["pooler"].startswith("on:" if pooled else "off:")
    (row,) = deployment.run_json("servers", "list")
    direct = make_url(deployment.server.url("x")).query["host"]
    assert (row["direct_host"], row["direct_port"]) == ((direct, 5432) if pooled else (None, None))
    assert (row["host"] == direct) is not pooled


def test_nothing_that_needs_a_session_went_through_the_pooler(deployment: Deployment) -> None:
    """Runs last: the tests above have used every command that locks, copies, renames or drops databases."""
    assert bool(deployment.statements) is (deployment.pooler is not None)
    assert [found for found in deployment.statements if SESSION_DEPENDENT.search(found)] == []
    held = "SELECT objid FROM pg_locks WHERE locktype = 'advisory'"
    assert ask(deployment.server, held) == []


@pytest.fixture(scope="module")
def movable() -> Iterator[EmbeddedPostgres]:
    """A server that can be a standby for a while."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    with EmbeddedPostgres(folder) as server:
        ask(server, "ALTER SYSTEM SET restore_command = 'false'")
        ask(server, "CREATE TABLE kept (n int)")
        yield server
    shutil.rmtree(folder)


def restart_as_standby(server: EmbeddedPostgres) -> None:
    (folder,) = ask(server, "SHOW data_directory")[0]
    (rules,) = ask(server, "SHOW hba_file")[0]
    admitted = Path(str(rules)).read_text()
    server.stop()
    signal_file = Path(str(folder)) / "standby.signal"
    signal_file.touch()
    os.chown(signal_file, signal_file.parent.stat().st_uid, -1)
    server.start()
    Path(str(rules)).write_text(admitted)
    ask(server, "SELECT pg_reload_conf()")
    assert ask(server, "SELECT pg_is_in_recovery()") == [(True,)]


def test_connection_that_the_pooler_moves_to_another_server_executes_nothing_there(movable: EmbeddedPostgres) -> None:
    """The client's connection remains open while the pooler connects to a standby, and to a promoted one."""
    histories = ServerHistories()
    with PgBouncer(movable, "transaction") as pooler:
        pooled, direct = make_url(pooler.url("postgres")), make_url(movable.url("postgres"))
        tenant = Tenant("moved", pooled, direct_url=direct)
        registry = EngineRegistry(PoolLimits(breaker_failures=1_000), histories=histories)
        insert, read = text("INSERT INTO kept VALUES (1)"), text("SELECT count(*) FROM kept")

        def outcome(statement: TextClause) -> str:
            try:
                with registry.autocommit(tenant) as session:
                    session.execute(statement)
            except TenantUnavailable as error:
                return error.reason
            return "executed"

        assert outcome(insert) == "executed"
        restart_as_standby(movable)
        assert outcome(read) == "the connection was lost", "a read from a standby may miss a revocation"
        wait_until(lambda: outcome(read) == "the server is a standby", 30)
        assert registry.metrics().connections == 0
        ask(movable, "SELECT pg_promote()")
        wait_until(lambda: outcome(read) == "executed", 30)
        assert histories.changes == 1

        # The connection lives through the whole failover.
        assert outcome(read) == "executed"
        assert registry.metrics().connections == 1
        restart_as_standby(movable)
        ask(movable, "SELECT pg_promote()")
        wait_until(lambda: ask(movable, "SELECT pg_is_in_recovery()") == [(False,)], 30)
        assert outcome(insert) == "the connection was lost"
        assert ask(movable, "SELECT count(*) FROM kept") == [(1,)]
        assert outcome(insert) == "executed"
        assert histories.changes == 2
        registry.close()


def test_two_poolers_in_one_url(server: EmbeddedPostgres) -> None:
    direct, registry = make_url(server.url("postgres")), EngineRegistry(PoolLimits(breaker_failures=1_000))
    with PgBouncer(server, "transaction") as first, PgBouncer(server, "transaction") as second:
        hosts = [str(make_url(pooler.url("x")).query["host"]) for pooler in (first, second)]
        tenant = Tenant("twice", only_primary(direct.update_query_dict({"host": hosts})), direct_url=direct)
        statement = text("SELECT current_setting('statement_timeout')")
        with registry.reading(tenant) as session:
            assert session.scalar(statement) == "5s"
        first.kill()
        with registry.reading(tenant) as session:
            assert session.scalar(statement) == "5s"
        registry.close()


def environ_of(harness: AppHarness, url: str, direct_url: str = "") -> dict[str, str]:
    return {**harness.environ, "KATAVEN_DATABASE_URL": url, "KATAVEN_DIRECT_DATABASE_URL": direct_url}


@pytest.mark.parametrize(
    ("mode", "ignored", "direct", "words"),
    [
        ("transaction", "", "none", "KATAVEN_DATABASE_URL: the address leads to a connection pooler"),
        ("transaction", "options", "none", "KATAVEN_DATABASE_URL: the address leads to a connection pooler"),
        ("session", "options", "none", "set KATAVEN_DIRECT_DATABASE_URL to the address of PostgreSQL itself"),
        ("transaction", "", "pooler", "KATAVEN_DIRECT_DATABASE_URL: The direct address leads to a connection pooler"),
        ("transaction", "options", "pooler", "KATAVEN_DIRECT_DATABASE_URL: The direct address leads to a connection"),
        ("statement", "", "server", "it runs in statement pooling mode. Set pool_mode = transaction"),
        ("transaction", "", "other", "The pooler and the direct address lead to different servers"),
    ],
)
def test_unusable_pooler_is_refused_at_startup(
    harness: AppHarness,
    server: EmbeddedPostgres,
    postgres: EmbeddedPostgres,
    mode: str,
    ignored: str,
    direct: str,
    words: str,
) -> None:
    with PgBouncer(server, mode, ignore_startup_parameters=ignored or "extra_float_digits") as pooler:
        url = pooler.url("postgres")
        urls = {"none": "", "pooler": url, "server": server.url("postgres"), "other": postgres.url("postgres")}
        with pytest.raises(SettingsError) as refused:
            assembly.require_usable_pooler(settings.load(environ_of(harness, url, urls[direct])))
        assert words in str(refused.value)
        if direct == "none":  # workers that started while the pooler was down refuse it too, and so do commands
            app = factory.create_api(settings.load(environ_of(harness, url)))
            found = app.test_cli_runner().invoke(args=["servers", "list"])
            assert "set KATAVEN_DIRECT_DATABASE_URL" in found.stderr
            answer = app.test_client().get("/readyz")
            assert (answer.status_code, answer.get_json()["status"]) == (503, "not_ready")
            assert "connection pooler" in answer.get_json()["checks"]["system_database"]
            app.extensions[EXTENSION].stop()


def test_usable_address_is_accepted_at_startup(harness: AppHarness, server: EmbeddedPostgres) -> None:
    assembly.require_usable_pooler(settings.load(environ_of(harness, server.url("postgres"))))
    for mode in POOL_MODES:
        with PgBouncer(server, mode) as pooler:
            require_postgres(pooler.url("postgres"), pooled=True)  # `make run`
            given = environ_of(harness, pooler.url("postgres"), server.url("postgres"))
            assembly.require_usable_pooler(settings.load(given))
    assembly.require_usable_pooler(settings.load(given))  # the pooler is down, which is no reason not to start


def test_gunicorn_does_not_start_with_an_unusable_pooler(
    harness: AppHarness, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    with PgBouncer(server, "statement") as pooler:
        given = environ_of(harness, pooler.url("postgres"), server.url("postgres"))
        with pytest.raises(RuntimeError, match="statement pooling mode"), Gunicorn(given, tmp_path / "log"):
            pass


def test_auth_service_does_not_start_with_an_unusable_pooler(harness: AppHarness, server: EmbeddedPostgres) -> None:
    with PgBouncer(server, "transaction") as pooler:
        given = environ_of(harness, pooler.url("postgres"))
        command = [sys.executable, "-m", "kataven.authservice"]
        ended = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "KATAVEN_DATABASE_URL: the address leads to a connection pooler" in ended.stderr


def test_server_behind_a_pooler_is_added_with_its_direct_url(harness: AppHarness) -> None:
    def flask(*words: str, given: str) -> Result:
        return harness.app.test_cli_runner().invoke(args=["servers", *words, "--json"], input=given)

    with scratch_server() as far, PgBouncer(far, "transaction") as pooler, PgBouncer(far, "statement") as refusing:
        pooled, direct = pooler.url(""), far.url("")
        assert "add --direct-url" in flask("add", "pooled", given=pooled).stderr
        assert "direct address leads" in flask("add", "pooled", "--direct-url", given=f"{pooled}\n{pooled}\n").stderr
        wrong = f"{refusing.url('')}\n{direct}\n"
        assert "statement pooling mode" in flask("add", "pooled", "--direct-url", given=wrong).stderr
        added = flask("add", "pooled", "--direct-url", given=f"{pooled}\n{direct}\n")
        assert added.exit_code == 0, added.output
        try:
            row = json.loads(added.stdout)
            hosts = tuple(make_url(url).query["host"] for url in (pooled, direct))
            assert (row["host"], row["direct_host"]) == hosts
            runner = harness.app.test_cli_runner()
            created = runner.invoke(args=["accounts", "create", "behind", "--server", "pooled"])
            assert created.exit_code == 0, created.output
            record = harness.services.directory.read("behind")
            assert record is not None
            assert record.tenant.pooled
            caller = harness.bearer(harness.new_key("behind"))
            assert caller.post("/v1/agents", {"name": "Concierge"}).status_code == 201
            assert ask(far, "SELECT name FROM agents", "behind") == [("Concierge",)]

            changed = flask("address", "pooled", given=direct)
            assert changed.exit_code == 0, changed.output
            assert json.loads(changed.stdout)["direct_host"] is None
            other = harness.environ["KATAVEN_DATABASE_URL"]
            assert "another server than 'pooled'" in flask("address", "pooled", given=other).stderr
            assert "set by KATAVEN_DATABASE_URL" in flask("address", "default", given=direct).stderr
            back = flask("address", "pooled", "--direct-url", given=f"{pooled}\n{direct}\n")
            assert back.exit_code == 0, back.output
        finally:
            with harness.services.directory.database.writing() as session:
                session.execute(delete(Account).where(Account.server == "pooled"))
                session.execute(delete(RegisteredServer).where(RegisteredServer.name == "pooled"))
            harness.services.registry.forget("behind")
