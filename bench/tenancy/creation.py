"""Creating account databases, compared with a plain CREATE DATABASE … TEMPLATE, and cleaning up after kill -9."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from sqlalchemy import make_url

from bench.tenancy.world import World, percentile, report_row
from kataven.tenancy.databases.repair import KnownAccount, Orphan, OrphanKind, find_orphans, repair
from kataven.tenancy.server import DatabaseServer

ONE_IN = 4


def run(world: World, *, accounts: int) -> None:
    """Print the time of each, the ratio of the medians, and the orphans that remain after a repair."""
    provisioner, ours, bare = world.provisioner(), [], []
    provisioner.provision("created0")
    with world.server.maintenance() as maintenance:
        template = provisioner.templates.ensure(maintenance)
        for number in range(1, accounts):
            ours.append(provisioner.provision(f"created{number}").seconds)
            if number % ONE_IN == 0:  # dropped immediately, so that both always run with the same number of databases
                started_at = time.monotonic()
                maintenance.create("bare", template)
                bare.append(time.monotonic() - started_at)
                maintenance.drop("bare")
    report_row(f"plain CREATE DATABASE … TEMPLATE with {accounts} databases, p50 / p99", _milliseconds(bare))
    report_row("account database, p50 / p99", _milliseconds(ours))
    report_row("ratio of the medians", f"{median(ours) / median(bare):.2f}", "at most 1.5")
    _kill_and_repair(world, accounts)


def _milliseconds(seconds: list[float]) -> str:
    return f"{median(seconds) * 1000:.0f} / {percentile(seconds, 99) * 1000:.0f} ms"


def _kill_and_repair(world: World, accounts: int) -> None:
    """Kill a process that creates accounts, clean up, and search for orphans again."""
    rows: dict[str, bool] = {f"created{number}": False for number in range(accounts)}
    url = world.server.url_of("postgres").render_as_string(hide_password=False)
    command = [sys.executable, "-m", "bench.tenancy.creation", url, str(world.revisions)]
    for kill in range(5):
        with subprocess.Popen([*command, str(kill)], stdout=subprocess.PIPE, text=True) as creator:
            assert creator.stdout is not None
            for line in creator.stdout:
                account, step = line.split()
                rows[account] = step == "reserved"
                if step == "reserved" and account.endswith("-2"):
                    time.sleep(kill / 200)  # at a different step each time
                    creator.kill()

    def finish(account: str) -> None:
        rows[account] = False

    def undo(account: str) -> None:
        del rows[account]

    found: set[OrphanKind] = set()
    while orphans := _orphans(world, rows):
        found.update(orphan.kind for orphan in orphans)
        repair(world.server, orphans, finish=finish, undo=undo)
    report_row(
        "kinds of orphans found after 5 kill -9 / remaining after a repair",
        f"{len(found)} / {len(_orphans(world, rows))}",
        "0 remaining",
    )


def _orphans(world: World, rows: dict[str, bool]) -> list[Orphan]:
    accounts = [KnownAccount(name, name, unfinished) for name, unfinished in rows.items()]
    with world.server.maintenance() as maintenance:
        return find_orphans(maintenance.databases(), accounts)


def _create_accounts(url: str, revisions: str, kill: str) -> None:
    world = World(DatabaseServer(make_url(url)), Path(revisions))
    for number in range(5):
        account = f"killed{kill}-{number}"
        with world.provisioner().reserve(account) as reservation:
            print(account, "reserved", flush=True)
            reservation.create()
            print(account, "created", flush=True)


if __name__ == "__main__":
    _create_accounts(*sys.argv[1:])
