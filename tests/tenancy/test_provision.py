"""Accounts' databases are made whole or not at all, from a template that nobody can spoil."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
    """The server, from which everything that the test made is removed at the end."""
    server = DatabaseServer(make_url(postgres.url("ignored")))
    with server.maintenance() as maintenance:
        for template in ours(maintenance):
            maintenance.discard(template)
        before = maintenance.databases()
        yield server
        for database in maintenance.databases() - before:
            maintenance.discard(database)


@pytest.fixture
def maintenance(server: DatabaseServer) -> Iterator[Maintenance]:
    with server.maintenance() as maintenance:
        yield maintenance


def ours(maintenance: Maintenance) -> set[str]:
    """Templates and scratch databases."""
    return {name for name in maintenance.databases() if name.startswith((TEMPLATE_PREFIX, SCRATCH_PREFIX))}


def test_a_database_is_made_with_the_head_schema(server: DatabaseServer, line: Line, maintenance: Maintenance) -> None:
    line.then("r2")
    made = Provisioner(server, line.schema()).provision("new")
    assert (made.database, made.revision) == ("new", "r2")
    assert made.seconds > 0
    with server.connect("new") as connection:
        assert line.schema().revision_of(connection) == "r2"
        assert line.schema().fingerprint(connection) == Templates(server, line.schema()).fingerprint(maintenance, "r2")
    assert ours(maintenance) == {"kataven_template_r2"}


def test_what_prepare_writes_is_there_with_the_database_or_not_at_all(
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
    assert ours(maintenance) == {"kataven_template_r1"}
    provisioner.provision("new", write)
    with server.connect("new") as connection:
        assert connection.execute(text("SELECT text FROM notes")).scalars().all() == ["welcome"]


def test_a_database_that_is_there_is_left_alone(server: DatabaseServer, line: Line, maintenance: Maintenance) -> None:
    provisioner = Provisioner(server, line.schema())
    maintenance.create("new", "template0")
    with pytest.raises(DatabaseExists):
        provisioner.provision("new")
    assert maintenance.exists("new")
    with pytest.raises(InvalidAccountName):
        provisioner.provision('new"; DROP DATABASE new')


def test_what_postgres_refuses_is_told_without_its_words(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    provisioner = Provisioner(server, line.schema(), strategy="by magic")  # type: ignore[arg-type]
    with pytest.raises(ProvisioningError, match=r"^the database .new. could not be made$"):
        provisioner.provision("new")
    assert not maintenance.exists("new")


def test_one_database_is_made_by_one_at_a_time(server: DatabaseServer, line: Line, maintenance: Maintenance) -> None:
    provisioner = Provisioner(server, line.schema())
    with provisioner.reserve("new") as reservation:
        with pytest.raises(ProvisioningInProgress):
            provisioner.provision("new")
        with pytest.raises(ProvisioningInProgress):
            provisioner.drop("new")
        provisioner.provision("other")
        reservation.make()
    with pytest.raises(DatabaseExists):
        provisioner.provision("new")
    provisioner.drop("new")
    provisioner.drop("new")
    assert not maintenance.exists("new")


def test_a_database_in_use_is_dropped_with_its_sessions(
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


def test_many_at_once_share_one_template_made_by_one_of_them(
    server: DatabaseServer, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, upgrade = [], Schema.upgrade

    def counted(self: Schema, connection: Connection, revision: str = "head") -> None:
        made.append(revision)
        upgrade(self, connection, revision)

    monkeypatch.setattr(Schema, "upgrade", counted)
    start = threading.Barrier(4)

    def provision(name: str) -> str:
        start.wait(10)
        return Provisioner(server, line.schema()).provision(name).database

    names = ["new1", "new2", "new3", "new4"]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(provision, names)) == names
    assert made == ["r1"]


def test_nobody_gets_into_a_template(server: DatabaseServer, line: Line, postgres: EmbeddedPostgres) -> None:
    Provisioner(server, line.schema()).provision("new")
    with (
        pytest.raises(OperationalError, match="not currently accepting connections"),
        server.connect("kataven_template_r1"),
    ):
        pass
    with connected(postgres) as connection, pytest.raises(Exception, match="cannot drop a template database"):
        connection.execute(text("DROP DATABASE kataven_template_r1"))


def test_an_edited_revision_makes_its_template_anew(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    line.then("r2", 'op.add_column("notes", sa.Column("first", sa.Text))')
    Provisioner(server, line.schema()).provision("new1")
    line.write("r2", "r1", '    op.add_column("notes", sa.Column("second", sa.Text))')
    Provisioner(server, line.schema()).provision("new2")
    with server.connect("new2") as connection:
        connection.execute(text("SELECT second FROM notes"))
    assert ours(maintenance) == {"kataven_template_r2"}


def test_a_failed_template_leaves_nothing_and_the_next_one_free(
    server: DatabaseServer, line: Line, maintenance: Maintenance
) -> None:
    line.then("r2", 'op.execute("SELECT 1 / 0")')
    with pytest.raises(ProvisioningError):
        Provisioner(server, line.schema()).provision("new")
    assert ours(maintenance) == set()
    line.write("r2", "r1", "    pass")
    assert Provisioner(server, line.schema()).provision("new").revision == "r2"


def test_a_comment_is_never_sql(maintenance: Maintenance) -> None:
    with pytest.raises(ValueError, match="only letters"):
        maintenance.set_comment("postgres", "'; DROP DATABASE postgres; --")
