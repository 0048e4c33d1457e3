"""A primary and its streaming standby behind one URL: a failover, and connections to a server that is demoted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url, text

from kataven import settings
from kataven.dev.embedded.binaries import postgres_programs
from kataven.dev.embedded.files import passable_folder
from kataven.dev.embedded.placement import place
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.unprivileged import change_owner
from kataven.settings import SettingsError
from kataven.system.database import SystemDatabase
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.suitability import Replication, require_suitable, server_url
from kataven.tenancy import programs
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.hosts import hosts_of, only_primary
from kataven.tenancy.serving.histories import ServerHistories
from kataven.tenancy.serving.registry import EngineRegistry
from tests.support.app_harness import AppHarness
from tests.support.servers import ask
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes


@dataclass
class Pair:
    """A primary and its standby, which can be promoted once."""

    primary: EmbeddedPostgres
    standby: EmbeddedPostgres
    identity: str

    def url(self, database: str) -> str:
        """The standby is listed first."""
        hosts = "&".join(f"host={make_url(server.url('x')).query['host']}" for server in (self.standby, self.primary))
        return f"postgresql://kataven@/{database}?{hosts}&target_session_attrs=read-write"


@pytest.fixture
def pair() -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        primary = stack.enter_context(EmbeddedPostgres(folder / "a"))
        (rules,) = ask(primary, "SHOW hba_file")[0]
        with Path(str(rules)).open("a", encoding="utf-8") as file:
            file.write("local replication kataven trust\nlocal all kataven trust\n")
        ask(primary, "SELECT pg_reload_conf()")
        copy(primary, folder / "b")
        standby = stack.enter_context(EmbeddedPostgres(folder / "b"))
        (identity,) = ask(primary, "SELECT system_identifier FROM pg_control_system()")[0]
        yield Pair(primary, standby, str(identity))


def copy(primary: EmbeddedPostgres, folder: Path) -> None:
    passable_folder(folder)
    placement = place(folder)
    host = str(make_url(primary.url("x")).query["host"])
    program = [str(postgres_programs() / "pg_basebackup"), "-D", str(placement.cluster), "-R", "-X", "stream"]
    subprocess.run([*program, "-c", "fast", "-h", host, "-U", "kataven"], check=True, capture_output=True)
    if placement.uid is not None:
        change_owner(placement.cluster, placement.uid)


def promote(pair: Pair) -> None:
    pair.primary.stop()
    ask(pair.standby, "SELECT pg_promote()")
    wait_until(lambda: ask(pair.standby, "SELECT pg_is_in_recovery()") == [(False,)], 60)


def test_system_database_follows_the_primary(pair: Pair) -> None:
    ask(pair.primary, "CREATE TABLE kept (n int)")
    histories = ServerHistories()
    database = SystemDatabase(normalized(pair.url("postgres")), histories=histories)
    with database.writing() as session:
        session.execute(text("INSERT INTO kept VALUES (1)"))
    registry = EngineRegistry()
    with (
        pytest.raises(TenantUnavailable, match="standby"),
        registry.reading(Tenant("somebody", make_url(pair.standby.url("postgres")))),
    ):
        pass
    registry.close()
    wait_until(lambda: ask(pair.standby, "SELECT to_regclass('kept') IS NOT NULL") == [(True,)], 60)
    wait_until(lambda: ask(pair.standby, "SELECT n FROM kept") == [(1,)], 60)

    promote(pair)

    def writes() -> bool:
        try:
            with database.writing() as session:
                session.execute(text("INSERT INTO kept VALUES (2)"))
        except SystemDatabaseUnavailable:  # the connection that the old primary closed, or the breaker
            return False
        return True

    wait_until(writes, 60)
    assert ask(pair.standby, "SELECT n FROM kept ORDER BY n") == [(1,), (2,)]
    assert histories.changes == 1
    database.close()


def test_account_database_that_the_standby_does_not_have_yet(pair: Pair) -> None:
    ask(pair.standby, "SELECT pg_wal_replay_pause()")
    ask(pair.primary, "CREATE DATABASE newest")
    registry = EngineRegistry()
    with registry.reading(Tenant("newest", make_url(normalized(pair.url("newest"))))) as session:
        assert session.scalar(text("SELECT pg_is_in_recovery()")) is False
    registry.close()


def normalized(url: str) -> str:
    parsed = only_primary(make_url(url).set(drivername="postgresql+psycopg2"))
    return parsed.render_as_string(hide_password=False)


def test_server_that_becomes_read_only_loses_all_its_connections(pair: Pair) -> None:
    for name in ("acme", "globex"):
        ask(pair.primary, f"CREATE DATABASE {name}")
        ask(pair.primary, "CREATE TABLE kept (n int)", name)
    acme, globex = (Tenant(name, make_url(normalized(pair.url(name)))) for name in ("acme", "globex"))
    registry = EngineRegistry()
    for tenant in (acme, globex):
        with registry.autocommit(tenant) as session:
            session.execute(text("INSERT INTO kept VALUES (1)"))
    assert registry.metrics().connections == 2
    ask(pair.primary, "ALTER SYSTEM SET default_transaction_read_only = on")
    ask(pair.primary, "SELECT pg_reload_conf()")

    def is_refused() -> bool:
        try:
            with registry.autocommit(acme) as session:
                session.execute(text("INSERT INTO kept VALUES (2)"))
        except TenantUnavailable as error:
            return "read-only" in str(error)
        return False

    wait_until(is_refused, 60)
    assert registry.metrics().connections == 0
    registry.close()


def test_replication_is_reported_for_a_server_that_is_added(pair: Pair) -> None:
    url = server_url(pair.url(""))
    wait_until(lambda: ask(pair.primary, "SELECT count(*) FROM pg_stat_replication") == [(1,)], 60)
    server = require_suitable(url)
    assert server.identity == pair.identity
    assert server.replication.standbys == 1
    assert "no synchronous replication" in str(server.replication.warning)
    ask(pair.primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
    ask(pair.primary, "SELECT pg_reload_conf()")
    wait_until(lambda: require_suitable(url).replication.synchronous, 60)
    assert require_suitable(url).replication.warning is None


@pytest.mark.parametrize(
    ("standbys", "names", "commit", "warning"),
    [
        (0, "", "on", None),
        (1, "*", "on", None),
        (1, "*", "remote_apply", None),
        (1, "", "on", "no synchronous replication"),
        (1, "*", "local", "no synchronous replication"),
        (0, "", "off", "synchronous_commit is off"),
    ],
)
def test_warning_about_replication(standbys: int, names: str, commit: str, warning: str | None) -> None:
    found = Replication(standbys, names, commit).warning
    assert (found is None) if warning is None else (warning in str(found))


def test_servers_add_prints_whether_replication_is_synchronous(harness: AppHarness, pair: Pair) -> None:
    run = harness.app.test_cli_runner().invoke
    wait_until(lambda: ask(pair.primary, "SELECT count(*) FROM pg_stat_replication") == [(1,)], 60)
    try:
        added = run(args=["servers", "add", "pair"], input=pair.url(""))
        assert added.exit_code == 0, added.output
        assert "Warning: The server has 1 standby(s) and no synchronous replication" in added.stderr
    finally:
        run(args=["servers", "remove", "pair"])


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u@db:5433/x", [("db", "5433")]),
        ("postgresql://u@db/x", [("db", "5432")]),
        ("postgresql://u@/x?host=a:1&host=b:2", [("a", "1"), ("b", "2")]),
        ("postgresql://u@/x?host=a&host=b:2", [("a", "5432"), ("b", "2")]),
        ("postgresql://u@/x?host=a,b&port=1,2", [("a", "1"), ("b", "2")]),
        ("postgresql://u@[::1]:5433/x", [("::1", "5433")]),
        ("postgresql://u@/x?host=a,b&port=1", [("a", "1"), ("b", "1")]),
        ("postgresql://u@/x?host=/run/a&host=/run/b", [("/run/a", "5432"), ("/run/b", "5432")]),
    ],
)
def test_hosts_of_a_url(url: str, hosts: list[tuple[str, str]]) -> None:
    assert hosts_of(make_url(url)) == hosts


def test_several_hosts_are_restricted_to_the_primary(harness: AppHarness) -> None:
    for attributes in ("", "&target_session_attrs=read-write", "&target_session_attrs=primary"):
        url = server_url(f"postgresql://u@/?host=a:1&host=b:2{attributes}")
        assert (url.query["host"], url.query["port"]) == ("a,b", "1,2")
        assert url.query["target_session_attrs"] == "primary"
        loaded = settings.load(
            {**harness.environ, "KATAVEN_DATABASE_URL": f"postgresql://u@/x?host=a:1&host=b:2{attributes}"}
        )
        assert "target_session_attrs=primary" in loaded.database_url.get_secret_value()
    assert "target_session_attrs" not in server_url("postgresql://u@a:1/").query


@pytest.mark.parametrize("attributes", ["any", "standby", "prefer-standby", "read-only"])
def test_urls_that_lead_to_standbys_are_refused(harness: AppHarness, attributes: str) -> None:
    query = f"host=a:1&host=b:2&target_session_attrs={attributes}"
    with pytest.raises(ValueError, match="target_session_attrs must be read-write"):
        server_url(f"postgresql://u@/?{query}")
    with pytest.raises(SettingsError, match="target_session_attrs must be read-write"):
        settings.load({**harness.environ, "KATAVEN_DATABASE_URL": f"postgresql://u@/x?{query}"})


@pytest.mark.parametrize("url", ["postgresql://u@a:1,b:2/x", "postgresql://u@/x?host=a:1&host=b:two"])
def test_malformed_hosts_are_refused_with_the_form(harness: AppHarness, url: str) -> None:
    with pytest.raises(SettingsError, match=r"KATAVEN_DATABASE_URL: .*host"):
        settings.load({**harness.environ, "KATAVEN_DATABASE_URL": url})


def test_client_programs_receive_every_host_with_its_port() -> None:
    url: URL = server_url("postgresql://u@/?host=a:1&host=b:2")
    given = programs.environment(url.set(database="acme"))
    assert (given["PGHOST"], given["PGPORT"], given["PGTARGETSESSIONATTRS"]) == ("a,b", "1,2", "primary")
