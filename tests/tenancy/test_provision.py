"""Accounts' databases are created completely or not at all, from protected templates."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import OperationalError

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.databases.provision import Provisioner
from kataven.tenancy.errors import DatabaseExists, InvalidAccountName, ProvisioningError, ProvisioningInProgress
from kataven.tenancy.names import SCRATCH_PREFIX, TEMPLATE_PREFIX
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer, Maintenance
from kataven.tenancy.templates import Templates
from tests.tenancy.conftest import connected
from tests.tenancy.revisions import Line


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path / "line")


@pytest.fixture
def server(postgres: EmbeddedPostgres) -> Iterator[DatabaseServer]:
    """The server. Databases that the test creates are dropped at the end."""
    server = DatabaseServer(make_url(postgres.url("ignored")))
    with server.maintenance() as maintenance:
        for template in templates_and_scratch_databases(maintenance):
            maintenance.discard(template)
        before = maintenance.databases()
        yield server
        for database in maintenance.databases() - before:
            maintenance.discard(database)


@pytest.fixture
def maintenance(server: DatabaseServer) -> Iterator[Maintenance]:
    with server.maintenance() as maintenance:
        yield maintenance


def _dsn(server: DatabaseServer, database: str) -> str:
    return server.url_of(database).render_as_string(hide_password=False).replace("postgresql+psycopg2", "postgresql")


def templates_and_scratch_databases(maintenance: Maintenance) -> set[str]:
    return {name for name in maintenance.databases() if name.startswith((TEMPLATE_PREFIX, SCRATCH_PREFIX))}


def test_a_database_is_created_with_the_head_schema(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    line.then("r2")
    created = Provisioner(server, line.schema()).provision("new")
    assert (created.database, created.revision) == ("new", "r2")
    assert created.seconds > 0
    with server.connect("new") as connection:
        assert line.schema().revision_of(connection) == "r2"
        assert line.schema().fingerprint(connection) == Templates(server, line.schema()).fingerprint(maintenance, "r2")
    assert templates_and_scratch_databases(maintenance) == {"kataven_template_r2"}


def test_prepare_and_creation_succeed_or_fail_together(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    provisioner = Provisioner(server, line.schema())

    def write(connection: Connection) -> None:
        connection.execute(text("INSERT INTO notes (text) VALUES ('welcome')"))

    def fail(connection: Connection) -> None:
        write(connection)
        raise LookupError

    with pytest.raises(LookupError):
        provisioner.provision("new", fail)
    assert not maintenance.exists("new")
    assert templates_and_scratch_databases(maintenance) == {"kataven_template_r1"}
    provisioner.provision("new", write)
    with server.connect("new") as connection:
        assert connection.execute(text("SELECT text FROM notes")).scalars().all() == ["welcome"]


def test_an_existing_database_is_not_changed(server: DatabaseServer, line: Line, maintenance: Maintenance) -> None:
    provisioner = Provisioner(server, line.schema())
    maintenance.create("new", "template0")
    with pytest.raises(DatabaseExists):
        provisioner.provision("new")
    assert maintenance.exists("new")
    with pytest.raises(InvalidAccountName):
        provisioner.provision('new"; DROP DATABASE new')


def test_a_postgresql_error_is_reported_without_its_message(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    provisioner = Provisioner(server, line.schema(), strategy="unknown")  # type: ignore[arg-type]
    with pytest.raises(ProvisioningError, match=r"^the database .new. could not be created$"):
        provisioner.provision("new")
    assert not maintenance.exists("new")


def test_only_one_process_at_a_time_creates_or_drops_a_database(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    provisioner = Provisioner(server, line.schema())
    with provisioner.reserve("new") as reservation:
        with pytest.raises(ProvisioningInProgress):
            provisioner.provision("new")
        with pytest.raises(ProvisioningInProgress):
            provisioner.drop("new")
        provisioner.provision("other")
        reservation.create()
    with pytest.raises(DatabaseExists):
        provisioner.provision("new")
    provisioner.drop("new")
    provisioner.drop("new")
    assert not maintenance.exists("new")


def test_dropping_a_database_terminates_its_sessions(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    provisioner = Provisioner(server, line.schema())
    provisioner.provision("new")
    with server.connect("new") as connection:
        connection.execute(text("SELECT 1"))
        provisioner.drop("new")
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT 1"))
    assert not maintenance.exists("new")


def test_a_database_is_replaced_while_services_keep_reconnecting_to_it(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    provisioner = Provisioner(server, line.schema())
    provisioner.provision("new")
    provisioner.provision("by")
    connected, stopped = threading.Barrier(5, timeout=60), threading.Event()

    def reconnect() -> None:
        first = True
        while not stopped.is_set():
            with suppress(psycopg2.Error), closing(psycopg2.connect(_dsn(server, "new"))) as connection:
                if first:
                    first = False
                    connected.wait()
                while not stopped.is_set():
                    connection.cursor().execute("SELECT pg_sleep(0.05)")

    def oids_of(connection: Connection) -> dict[str, int]:
        oids = text("SELECT datname, oid FROM pg_database WHERE datname IN ('new', 'by')")
        return {row.datname: row.oid for row in connection.execute(oids)}

    with server.connect("postgres") as connection, ThreadPoolExecutor(4) as services:
        before = oids_of(connection)
        for _ in range(4):
            services.submit(reconnect)
        try:
            connected.wait()
            maintenance.exchange("new", by="by", aside="old")
        finally:
            stopped.set()
            maintenance.drop("old")
        assert oids_of(connection) == {"new": before["by"]}


def test_concurrent_creations_create_the_template_once(
    server: DatabaseServer, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    revisions, upgrade = [], Schema.upgrade

    def counted(self: Schema, connection: Connection, revision: str = "head") -> None:
        revisions.append(revision)
        upgrade(self, connection, revision)

    monkeypatch.setattr(Schema, "upgrade", counted)
    start = threading.Barrier(4)

    def provision(name: str) -> str:
        start.wait(10)
        return Provisioner(server, line.schema()).provision(name).database

    names = ["new1", "new2", "new3", "new4"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(provision, names)) == names
    assert revisions == ["r1"]


def test_a_template_rejects_connections_and_drops(
    server: DatabaseServer, line: Line, postgres: EmbeddedPostgres
) -> None:
    Provisioner(server, line.schema()).provision("new")
    with (
        pytest.raises(OperationalError, match="not currently accepting connections"),
        server.connect("kataven_template_r1"),
    ):
        pass
    with connected(postgres) as connection, pytest.raises(Exception, match="cannot drop a template database"):
        connection.execute(text("DROP DATABASE kataven_template_r1"))


def test_editing_a_revision_recreates_its_template(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    line.then("r2", 'op.add_column("notes", sa.Column("first", sa.Text))')
    Provisioner(server, line.schema()).provision("new1")
    line.write("r2", "r1", '    op.add_column("notes", sa.Column("second", sa.Text))')
    Provisioner(server, line.schema()).provision("new2")
    with server.connect("new2") as connection:
        connection.execute(text("SELECT second FROM notes"))
    assert templates_and_scratch_databases(maintenance) == {"kataven_template_r2"}


def test_a_failed_template_leaves_no_database_and_can_be_retried(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    line.then("r2", 'op.execute("SELECT 1 / 0")')
    with pytest.raises(ProvisioningError):
        Provisioner(server, line.schema()).provision("new")
    assert templates_and_scratch_databases(maintenance) == set()
    line.write("r2", "r1", "    pass")
    assert Provisioner(server, line.schema()).provision("new").revision == "r2"


def test_a_comment_can_not_contain_sql(maintenance: Maintenance) -> None:
    with pytest.raises(ValueError, match="only letters"):
        maintenance.set_comment("postgres", "'; DROP DATABASE postgres; --")
