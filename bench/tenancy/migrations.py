"""A migration of many accounts, compared with `alembic.command.upgrade` in a loop; also killed, and with failures."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, make_url, text

from bench.tenancy.world import SCRIPTS, World, report_row
from kataven.tenancy.directory import Tenant
from kataven.tenancy.migrations.fleet import Fleet, RunOptions
from kataven.tenancy.migrations.report import MigrationOutcome, MigrationReport
from kataven.tenancy.server import DatabaseServer

ADD = 'op.add_column("agents", sa.Column("{}", sa.Text)); op.create_index("agents_{}", "agents", ["{}"])'
RELEASE = ("r2", "r3", "r4", "r5")
FAILING = 5
BURNERS = 20


def run(world: World, *, accounts: int) -> None:
    """Print the accounts per second of both, and the results of a killed run and of a run with failures."""
    tenants = world.accounts("fleet", accounts)
    sample = world.accounts("loop", max(10, accounts // 10))
    for revision in RELEASE:
        _add_revision(world, revision)
    loop = len(sample) / _in_a_loop(world, sample)
    report = _upgrade(world, tenants)
    _expect(report, {MigrationOutcome.MIGRATED: accounts})
    ours = accounts / report.seconds
    report_row(f"accounts per second, {accounts} accounts, {len(RELEASE)} revisions, --jobs 8", f"{ours:.0f}")
    report_row(f"the same with alembic.command.upgrade in a loop, {len(sample)} accounts", f"{loop:.0f}")
    report_row("ratio", f"{ours / loop:.1f}", "at least 2")
    world.drop(sample)
    _on_a_busy_machine(world, accounts=max(60, accounts // 5))
    started_at = time.monotonic()
    unchanged = _upgrade(world, tenants)
    report_row("a run without pending migrations", f"{time.monotonic() - started_at:.1f} s", "under 10 s")
    _expect(unchanged, {MigrationOutcome.CURRENT: accounts})
    _kill_and_resume(world, tenants)
    _with_failures(world, tenants)
    world.drop(tenants)


def _on_a_busy_machine(world: World, *, accounts: int) -> None:
    """The same comparison beside other processes, the whole command counted: interpreter, imports, rendering, proof."""
    tenants, sample = world.accounts("busy", accounts), world.accounts("busyloop", accounts)
    with _burners(BURNERS):
        loop = _seconds_of_command(world, "loop", "busyloop", accounts)
        ours = _seconds_of_command(world, "fleet", "busy", accounts)
    label = f"beside {BURNERS} busy processes, the whole command, {accounts} accounts: loop / ours"
    report_row(label, f"{loop:.1f} s / {ours:.1f} s")
    report_row("ratio", f"{loop / ours:.1f}", "at least 1.3")
    world.drop([*tenants, *sample])


@contextmanager
def _burners(count: int) -> Iterator[None]:
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def _seconds_of_command(world: World, how: str, prefix: str, accounts: int) -> float:
    url = world.server.url_of("postgres").render_as_string(hide_password=False)
    command = [sys.executable, "-m", "bench.tenancy.migrations", url, str(world.revisions), str(accounts), prefix, how]
    started_at = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started_at


def _add_revision(world: World, name: str) -> None:
    number = int(name[1:])
    world.add_revision(name, f"r{number - 1}", ADD.format(name, name, name))


def _upgrade(world: World, tenants: Sequence[Tenant]) -> MigrationReport:
    return Fleet(world.schema(), world.server).upgrade(tenants, RunOptions(max_failures=100))


def _in_a_loop(world: World, tenants: Sequence[Tenant]) -> float:
    """As in Alembic's cookbook: an engine and a command for each account."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("version_locations", str(world.revisions))
    config.set_main_option("path_separator", "newline")
    config.attributes["metadata"] = "bench.tenancy.world:Base.metadata"
    started_at = time.monotonic()
    for tenant in tenants:
        with create_engine(tenant.url, poolclass=NullPool).connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return time.monotonic() - started_at


def _kill_and_resume(world: World, tenants: Sequence[Tenant]) -> None:
    _add_revision(world, "r6")
    url = world.server.url_of("postgres").render_as_string(hide_password=False)
    command = [sys.executable, "-m", "bench.tenancy.migrations", url, str(world.revisions), str(len(tenants))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for _ in range(len(tenants) // 2):
            killed.stdout.readline()
        killed.kill()
    resumed = _upgrade(world, tenants)
    while not resumed.succeeded:  # the server has not detected yet that the killed run's connections are closed
        resumed = _upgrade(world, tenants)
    counts = resumed.counts
    once = _applied_once(world, tenants, "r6")
    what = f"killed half-way, resumed: current / migrated by the second run, of {len(tenants)}"
    report_row(what, f"{counts[MigrationOutcome.CURRENT]} / {counts[MigrationOutcome.MIGRATED]}")
    report_row("accounts whose database ran the revision exactly once", str(once), f"{len(tenants)}")


def _with_failures(world: World, tenants: Sequence[Tenant]) -> None:
    _add_revision(world, "r7")
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
    report_row(f"after {len(failing)} failures, repaired and run again: exactly once in", str(once), f"{len(tenants)}")


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


def _command(url: str, revisions: str, accounts: str, prefix: str = "fleet", how: str = "fleet") -> None:
    world = World(DatabaseServer(make_url(url)), Path(revisions))
    tenants = [world.tenant(f"{prefix}{number}") for number in range(int(accounts))]
    if how == "loop":
        _in_a_loop(world, tenants)
        return
    Fleet(world.schema(), world.server).upgrade(tenants, progress=lambda result: print(result.account, flush=True))


if __name__ == "__main__":
    _command(*sys.argv[1:])
