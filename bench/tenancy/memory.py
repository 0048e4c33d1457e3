"""Memory per warm engine, and round trips before an account's first query, measured in new processes."""

import gc
import subprocess
import sys

from sqlalchemy import Executable, Select, create_engine, delete, func, make_url, select, text, update
from sqlalchemy.orm import Session, aliased, load_only

from bench.tenancy.world import Agent, Call, World, report_row
from kataven.tenancy.directory import Tenant
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from tests.tenancy.proxy import CountingProxy

OTHER = aliased(Agent)
STATEMENTS: list[Executable] = [
    select(Agent),
    select(Agent).limit(5),
    select(Agent).order_by(Agent.name),
    select(Agent).where(Agent.id == 1),
    select(Agent).where(Agent.name == "x"),
    select(Agent).where(Agent.status.in_(["a", "b"])),
    select(Agent).where(Agent.name.like("x%")).limit(3),
    select(Agent).options(load_only(Agent.name)),
    select(Agent.id),
    select(Agent.id, Agent.name),
    select(func.count(Agent.id)),
    select(Agent).join(Call),
    select(Agent, Call).join(Call),
    select(Agent).join(OTHER, OTHER.name == Agent.name),
    select(Call),
    select(Call).where(Call.seconds > 3),
    select(func.sum(Call.seconds)).group_by(Call.agent_id),
    select(Agent).where(Agent.id.in_(select(Call.agent_id))),
    select(Agent).with_for_update(),
    update(Agent).where(Agent.id == -1).values(name="y"),
    delete(Call).where(Call.id == -1),
    text("SELECT 1"),
]


def run(world: World, *, accounts: int) -> None:
    """Print the memory of one additional engine, ours and SQLAlchemy's default."""
    tenants = world.accounts("memory", accounts)
    urls = [tenant.url.render_as_string(hide_password=False) for tenant in tenants]
    own, default = (_in_new_process(kind, urls) for kind in ("ours", "default"))
    report_row("memory per warm engine with its connection, 22 ORM statements", f"{own:.0f} KB", "at most 40 KB")
    report_row("the same, with a default engine", f"{default:.0f} KB")
    first, second = tenants[:2]
    extra = _round_trips(first, second) - 2
    report_row("round trips before an account's first query, without connecting", str(extra), "0")
    world.drop(tenants)


def _in_new_process(kind: str, urls: list[str]) -> float:
    command = [sys.executable, "-m", "bench.tenancy.memory", kind]
    done = subprocess.run(command, input="\n".join(urls), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _round_trips(first: Tenant, second: Tenant) -> int:
    """The round trips of a session on `second`, after one on `first` has initialized the dialect."""
    with CountingProxy(first.url) as proxy:
        registry = EngineRegistry()
        for tenant in (first, second):
            before = proxy.round_trips
            with registry.reading(Tenant(tenant.account, proxy.url.set(database=tenant.url.database))) as session:
                session.execute(text("SELECT 1"))
        trips = proxy.round_trips - before
        registry.close()
    return trips


def _resident_kilobytes() -> float:
    gc.collect()
    with open("/proc/self/smaps_rollup", encoding="ascii") as rollup:
        return next(float(line.split()[1]) for line in rollup if line.startswith("Private_Dirty"))


def _measure(kind: str, tenants: list[Tenant]) -> float:
    registry = EngineRegistry(PoolLimits(engines=1000, connections=1000))
    kept = []

    def warm(tenant: Tenant) -> None:
        if kind == "ours":
            with registry.writing(tenant) as session:
                _exercise(session)
        else:
            engine = create_engine(tenant.url)
            kept.append(engine)
            with Session(engine) as session:
                _exercise(session)

    warmup = len(tenants) // 4
    for tenant in tenants[:warmup]:
        warm(tenant)
    before = _resident_kilobytes()
    for tenant in tenants[warmup:]:
        warm(tenant)
    return (_resident_kilobytes() - before) / (len(tenants) - warmup)


def _exercise(session: Session) -> None:
    for statement in STATEMENTS:
        result = session.execute(statement)
        if isinstance(statement, Select):
            result.all()
    session.rollback()


if __name__ == "__main__":
    given = [make_url(line) for line in sys.stdin.read().split()]
    print(_measure(sys.argv[1], [Tenant(str(url.database), url) for url in given]))
