"""A migration over many accounts, next to `alembic.command.upgrade` in a loop; killed and resumed; with failures."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, make_url, text

from bench.tenancy.world import SCRIPTS, World, tell
from kataven.tenancy.directory import Tenant
from kataven.tenancy.migrations.fleet import Fleet, RunOptions
from kataven.tenancy.migrations.report import MigrationOutcome, MigrationReport
from kataven.tenancy.server import DatabaseServer

ADD = 'op.add_column("agents", sa.Column("{}", sa.Text)); op.create_index("agents_{}", "agents", ["{}"])'
RELEASE = ("r2", "r3", "r4", "r5")
FAILING = 5


def run(world: World, *, accounts: int) -> None:
    """Print accounts per second both ways, then how a killed run and a run with failures end."""
    tenants = world.accounts("fleet", accounts)
    sample = world.accounts("loop", max(10, accounts // 10))
    for revision in RELEASE:
        _then(world, revision)
    loop = len(sample) / _in_a_loop(world, sample)
    report = _upgrade(world, tenants)
    _expect(report, {MigrationOutcome.MIGRATED: accounts})
    ours = accounts / report.seconds
    tell(f"accounts a second, {accounts} accounts, {len(RELEASE)} revisions, --jobs 8", f"{ours:.0f}")
    tell(f"the same by alembic.command.upgrade in a loop, over {len(sample)}", f"{loop:.0f}")
    tell("ratio", f"{ours / loop:.1f}", "at least 4")
    world.drop(sample)
    began = time.monotonic()
    nothing = _upgrade(world, tenants)
    tell("a run with nothing to do", f"{time.monotonic() - began:.1f} s", "under 10 s")
    _expect(nothing, {MigrationOutcome.CURRENT: accounts})
    _kill_and_resume(world, tenants)
    _with_failures(world, tenants)
    world.drop(tenants)


def _then(world: World, name: str) -> None:
    number = int(name[1:])
    world.then(name, f"r{number - 1}", ADD.format(name, name, name))


def _upgrade(world: World, tenants: Sequence[Tenant]) -> MigrationReport:
    return Fleet(world.schema(), world.server).upgrade(tenants, RunOptions(max_failures=100))


def _in_a_loop(world: World, tenants: Sequence[Tenant]) -> float:
    """As Alembic's cookbook does it: an engine and a command for each."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("version_locations", str(world.revisions))
    config.set_main_option("path_separator", "newline")
    config.attributes["metadata"] = "bench.tenancy.world:Base.metadata"
    began = time.monotonic()
    for tenant in tenants:
        with create_engine(tenant.url, poolclass=NullPool).connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return time.monotonic() - began


def _kill_and_resume(world: World, tenants: Sequence[Tenant]) -> None:
    _then(world, "r6")
    url = world.server.url_of("postgres").render_as_string(hide_password=False)
    command = [sys.executable, "-m", "bench.tenancy.migrations", url, str(world.revisions), str(len(tenants))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for _ in range(len(tenants) // 2):
            killed.stdout.readline()
        killed.kill()
    resumed = _upgrade(world, tenants)
    while not resumed.succeeded:  # the server has yet to notice that the killed run's connections are gone
        resumed = _upgrade(world, tenants)
    counts = resumed.counts
    once = _applied_once(world, tenants, "r6")
    what = f"killed half-way and resumed: current / migrated by the second run, of {len(tenants)}"
    tell(what, f"{counts[MigrationOutcome.CURRENT]} / {counts[MigrationOutcome.MIGRATED]}")
    tell("accounts in whose database the revision ran exactly once", str(once), f"{len(tenants)}")


def _with_failures(world: World, tenants: Sequence[Tenant]) -> None:
    _then(world, "r7")
    failing = tenants[1 :: max(1, len(tenants) // FAILING)][:FAILING]
    for tenant in failing:
        with world.server.connect(str(tenant.url.database)) as connection:
            connection.exec_driver_sql("ALTER TABLE agents ADD r7 int")
    first = _upgrade(world, tenants)
    _expect(first, {MigrationOutcome.MIGRATED: len(tenants) - len(failing), MigrationOutcome.FAILED: len(failing)})
    for tenant in failing:
        with world.server.connect(str(tenant.url.database)) as connection:
            connection.exec_driver_sql("ALTER TABLE agents DROP r7")
    _expect(
        _upgrade(world, tenants),
        {MigrationOutcome.CURRENT: len(tenants) - len(failing), MigrationOutcome.MIGRATED: len(failing)},
    )
    once = _applied_once(world, tenants, "r7")
    tell(f"with {len(failing)} made to fail, mended, and run again: exactly once in", str(once), f"{len(tenants)}")


def _applied_once(world: World, tenants: Sequence[Tenant], revision: str) -> int:
    times: Counter[int] = Counter()
    query = text("SELECT count(*) FROM applied WHERE revision = :revision")
    for tenant in tenants:
        with world.server.connect(str(tenant.url.database)) as connection:
            times[connection.execute(query, {"revision": revision}).scalar_one()] += 1
    return times[1]


def _expect(report: MigrationReport, counts: dict[MigrationOutcome, int]) -> None:
    if report.counts != counts:
        raise AssertionError(f"{report.counts} instead of {counts}")


def _run_to_be_killed(url: str, revisions: str, accounts: str) -> None:
    world = World(DatabaseServer(make_url(url)), Path(revisions))
    tenants = [world.tenant(f"fleet{number}") for number in range(int(accounts))]
    Fleet(world.schema(), world.server).upgrade(tenants, progress=lambda result: print(result.account, flush=True))


if __name__ == "__main__":
    _run_to_be_killed(*sys.argv[1:])
