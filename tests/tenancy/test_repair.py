"""Repair finds and cleans up what a crash left, and skips databases that are being created."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.databases.provision import Provisioner
from kataven.tenancy.databases.repair import KnownAccount, Orphan, OrphanKind, Repair, find_orphans, repair
from kataven.tenancy.names import KATAVEN_NAMES
from kataven.tenancy.server import DatabaseServer
from tests.tenancy.revisions import Line

STOP_DURING_CREATION = """
import sys
from pathlib import Path
from sqlalchemy import make_url
from kataven.tenancy.databases.provision import Provisioner
from kataven.tenancy.server import DatabaseServer
from tests.tenancy.revisions import Line

url, folder, where = sys.argv[1:]

def stop(connection=None):
    print(where, flush=True)
    sys.stdin.read()

provisioner = Provisioner(DatabaseServer(make_url(url)), Line(Path(folder)).schema())
with provisioner.reserve("acme") as reservation:
    if where == "before":
        stop()
    reservation.create(stop if where == "within" else None)
    stop()
"""


class AccountRows:
    """The rows of the accounts."""

    def __init__(self, **unfinished: bool) -> None:
        self.unfinished = unfinished

    def accounts(self) -> list[KnownAccount]:
        return [KnownAccount(name, name, unfinished) for name, unfinished in self.unfinished.items()]

    def finish(self, account: str) -> None:
        self.unfinished[account] = False

    def undo(self, account: str) -> None:
        del self.unfinished[account]

    def repair(self, server: DatabaseServer) -> list[Repair]:
        with server.maintenance() as maintenance:
            orphans = find_orphans(maintenance.databases(), self.accounts())
        return repair(server, orphans, finish=self.finish, undo=self.undo)


def test_every_kind_of_orphan_is_found() -> None:
    databases = {
        "postgres",
        "template0",
        "kataven_template_r1",
        "acme",
        "globex",
        "misc",
        "hub",
        "stark",
        KATAVEN_NAMES.scratch("x"),
    }
    accounts = [
        KnownAccount("acme", "acme", unfinished=False),
        KnownAccount("globex", "globex", unfinished=True),
        KnownAccount("hooli", "hooli", unfinished=True),
        KnownAccount("initech", "initech_db", unfinished=False),
        KnownAccount("stark", "stark", unfinished=False, deleting=True),
        KnownAccount("wayne", "wayne", unfinished=False, deleting=True),
    ]
    assert set(find_orphans(databases, accounts, ignored={"hub"})) == {
        Orphan(OrphanKind.INCOMPLETE, KATAVEN_NAMES.scratch("x")),
        Orphan(OrphanKind.UNFINISHED, "globex", "globex"),
        Orphan(OrphanKind.NO_DATABASE, "hooli", "hooli"),
        Orphan(OrphanKind.LOST, "initech_db", "initech"),
        Orphan(OrphanKind.DELETING, "stark", "stark"),
        Orphan(OrphanKind.REMOVED, "wayne", "wayne"),
        Orphan(OrphanKind.UNKNOWN, "misc"),
    }
    assert find_orphans({"acme"}, accounts[:1]) == []


@pytest.mark.parametrize("where", ["before", "within", "after"])
def test_repair_cleans_up_a_killed_creation_and_skips_one_in_progress(
    where: str, other_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    server, folder = DatabaseServer(make_url(other_server.url("postgres"))), tmp_path / "line"
    line, rows = Line(folder), AccountRows(acme=True)
    command = [sys.executable, "-c", STOP_DURING_CREATION, other_server.url("postgres"), str(folder), where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as creator:
        assert creator.stdout is not None
        assert creator.stdout.readline() == f"{where}\n"
        results = rows.repair(server)
        assert {result.reason for result in results} == {"another process is creating or removing it"}
        assert rows.unfinished == {"acme": True}
        creator.kill()
        creator.wait()
    while not all(result.done for result in rows.repair(server)):
        pass  # until the server has detected that its client has exited
    assert rows.unfinished == ({"acme": False} if where == "after" else {})
    with server.maintenance() as maintenance:
        assert find_orphans(maintenance.databases(), rows.accounts()) == []
        assert maintenance.exists("acme") == (where == "after")
        maintenance.drop("acme")
    Provisioner(server, line.schema()).provision("acme")
    with server.maintenance() as maintenance:
        maintenance.drop("acme")


def test_databases_that_may_contain_customer_data_are_only_reported(other_server: EmbeddedPostgres) -> None:
    server, rows = DatabaseServer(make_url(other_server.url("postgres"))), AccountRows(lost=False)
    with server.maintenance() as maintenance:
        maintenance.create("stray", "template0")
        reported = {(result.orphan.kind, result.orphan.database, result.done) for result in rows.repair(server)}
        assert reported == {(OrphanKind.LOST, "lost", False), (OrphanKind.UNKNOWN, "stray", False)}
        assert maintenance.exists("stray")
        maintenance.drop("stray")
    assert rows.unfinished == {"lost": False}
