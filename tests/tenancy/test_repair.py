"""What a crash leaves behind is found, told apart from what is being made, and cleaned up."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.databases.provision import Provisioner
from kataven.tenancy.databases.repair import KnownAccount, Orphan, OrphanKind, Repair, find_orphans, repair
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import scratch_name
from tests.tenancy.revisions import Line

STOP_HALF_WAY = """
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
    reservation.make(stop if where == "within" else None)
    stop()
"""


class Keeper:
    """Who writes down which accounts there are."""

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


def test_every_difference_has_its_name() -> None:
    databases = {
        "postgres",
        "template0",
        "kataven_template_r1",
        "acme",
        "globex",
        "misc",
        "hub",
        "stark",
        scratch_name("x"),
    }
    accounts = [
        KnownAccount("acme", "acme", unfinished=False),
        KnownAccount("globex", "globex", unfinished=True),
        KnownAccount("hooli", "hooli", unfinished=True),
        KnownAccount("initech", "initech_db", unfinished=False),
        KnownAccount("stark", "stark", unfinished=False, leaving=True),
        KnownAccount("wayne", "wayne", unfinished=False, leaving=True),
    ]
    assert set(find_orphans(databases, accounts, ignored={"hub"})) == {
        Orphan(OrphanKind.HALF_MADE, scratch_name("x")),
        Orphan(OrphanKind.UNFINISHED, "globex", "globex"),
        Orphan(OrphanKind.NOTHING_MADE, "hooli", "hooli"),
        Orphan(OrphanKind.LOST, "initech_db", "initech"),
        Orphan(OrphanKind.LEAVING, "stark", "stark"),
        Orphan(OrphanKind.REMOVED, "wayne", "wayne"),
        Orphan(OrphanKind.STRAY, "misc"),
    }
    assert find_orphans({"acme"}, accounts[:1]) == []


@pytest.mark.parametrize("where", ["before", "within", "after"])
def test_a_killed_creation_is_cleaned_up_and_a_live_one_is_not_touched(
    where: str, other_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    server, folder = DatabaseServer(make_url(other_server.url("postgres"))), tmp_path / "line"
    line, keeper = Line(folder), Keeper(acme=True)
    command = [sys.executable, "-c", STOP_HALF_WAY, other_server.url("postgres"), str(folder), where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == f"{where}\n"
        told = keeper.repair(server)
        assert {result.reason for result in told} == {"it is being made or removed at this moment"}
        assert keeper.unfinished == {"acme": True}
        maker.kill()
        maker.wait()
    while not all(result.done for result in keeper.repair(server)):
        pass  # the server has yet to notice that its client is gone
    assert keeper.unfinished == ({"acme": False} if where == "after" else {})
    with server.maintenance() as maintenance:
        assert find_orphans(maintenance.databases(), keeper.accounts()) == []
        assert maintenance.exists("acme") == (where == "after")
        maintenance.drop("acme")
    Provisioner(server, line.schema()).provision("acme")
    with server.maintenance() as maintenance:
        maintenance.drop("acme")


def test_what_may_be_somebodys_data_is_told_and_left(other_server: EmbeddedPostgres) -> None:
    server, keeper = DatabaseServer(make_url(other_server.url("postgres"))), Keeper(lost=False)
    with server.maintenance() as maintenance:
        maintenance.create("stray", "template0")
        told = {(result.orphan.kind, result.orphan.database, result.done) for result in keeper.repair(server)}
        assert told == {(OrphanKind.LOST, "lost", False), (OrphanKind.STRAY, "stray", False)}
        assert maintenance.exists("stray")
        maintenance.drop("stray")
    assert keeper.unfinished == {"lost": False}
