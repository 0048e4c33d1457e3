"""Accounts' databases made, next to a bare CREATE DATABASE … TEMPLATE in the same run; then a kill -9 in the middle."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from sqlalchemy import make_url

from bench.tenancy.world import World, percentile, tell
from kataven.tenancy.databases.repair import KnownAccount, Orphan, OrphanKind, find_orphans, repair
from kataven.tenancy.server import DatabaseServer

ONE_IN = 4


def run(world: World, *, accounts: int) -> None:
    """Print the time for each, the ratio of the medians, and what a repair leaves behind."""
    provisioner, ours, bare = world.provisioner(), [], []
    provisioner.provision("made0")
    with world.server.maintenance() as maintenance:
        template = provisioner.templates.ensure(maintenance)
        for number in range(1, accounts):
            ours.append(provisioner.provision(f"made{number}").seconds)
            if number % ONE_IN == 0:  # removed again at once, so that both always see as many databases
                began = time.monotonic()
                maintenance.create("bare", template)
                bare.append(time.monotonic() - began)
                maintenance.drop("bare")
    tell(f"a bare CREATE DATABASE … TEMPLATE among {accounts} databases, p50 / p99", _milliseconds(bare))
    tell("an account's database, p50 / p99", _milliseconds(ours))
    tell("ratio of the medians", f"{median(ours) / median(bare):.2f}", "at most 1.5")
    _kill_and_repair(world, accounts)


def _milliseconds(seconds: list[float]) -> str:
    return f"{median(seconds) * 1000:.0f} / {percentile(seconds, 99) * 1000:.0f} ms"


def _kill_and_repair(world: World, accounts: int) -> None:
    """Kill a process that makes accounts one after the other, in the middle of one; clean up; look again."""
    rows: dict[str, bool] = {f"made{number}": False for number in range(accounts)}
    url = world.server.url_of("postgres").render_as_string(hide_password=False)
    command = [sys.executable, "-m", "bench.tenancy.creation", url, str(world.revisions)]
    for kill in range(5):
        with subprocess.Popen([*command, str(kill)], stdout=subprocess.PIPE, text=True) as maker:
            assert maker.stdout is not None
            for line in maker.stdout:
                account, said = line.split()
                rows[account] = said == "reserved"
                if said == "reserved" and account.endswith("-2"):
                    time.sleep(kill / 200)  # at another moment of the making each time
                    maker.kill()

    def finish(account: str) -> None:
        rows[account] = False

    def undo(account: str) -> None:
        del rows[account]

    found: set[OrphanKind] = set()
    while orphans := _wrecks(world, rows):
        found.update(orphan.kind for orphan in orphans)
        repair(world.server, orphans, finish=finish, undo=undo)
    tell(
        "kinds of wreck found after 5 kill -9 / left after a repair",
        f"{len(found)} / {len(_wrecks(world, rows))}",
        "0 left",
    )


def _wrecks(world: World, rows: dict[str, bool]) -> list[Orphan]:
    accounts = [KnownAccount(name, name, unfinished) for name, unfinished in rows.items()]
    with world.server.maintenance() as maintenance:
        return find_orphans(maintenance.databases(), accounts)


def _make_accounts(url: str, revisions: str, kill: str) -> None:
    world = World(DatabaseServer(make_url(url)), Path(revisions))
    for number in range(5):
        account = f"killed{kill}-{number}"
        with world.provisioner().reserve(account) as reservation:
            print(account, "reserved", flush=True)
            reservation.create()
            print(account, "made", flush=True)


if __name__ == "__main__":
    _make_accounts(*sys.argv[1:])
