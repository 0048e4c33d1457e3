"""Requests for 300 accounts with a limit of 40 engines, ours compared with default engines, in alternating slices.

The baseline is the obvious implementation: a dictionary of default engines that disposes of the least recently used.
Then the cap: the maximum number of sessions on the server while engines are created and evicted.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from statistics import median

from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from bench.tenancy.world import ROWS, Agent, World, report_row, zipf
from kataven.tenancy.directory import Tenant
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry

ENGINES, THREADS, CAP = 40, 8, 12
Request = Callable[[Tenant], None]


class DefaultEngines:
    """SQLAlchemy's default engines, in a dictionary of bounded size."""

    def __init__(self) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._lock = threading.Lock()

    def request(self, tenant: Tenant) -> None:
        with self._lock:
            engine = self._engines.get(tenant.account) or create_engine(tenant.url)
            self._engines[tenant.account] = engine
            self._engines.move_to_end(tenant.account)
            evicted = self._engines.popitem(last=False)[1] if len(self._engines) > ENGINES else None
        if evicted is not None:
            evicted.dispose()
        with Session(engine) as session:
            _read(session)

    def close(self) -> None:
        for engine in self._engines.values():
            engine.dispose()


def run(world: World, *, accounts: int, seconds: float, rounds: int) -> None:
    """Print both throughputs, their ratio, and the maximum number of sessions of a small registry."""
    tenants = world.accounts("zipf", accounts)
    registry, default = EngineRegistry(PoolLimits(engines=ENGINES, connections=ENGINES * 2)), DefaultEngines()

    def ours(tenant: Tenant) -> None:
        with registry.reading(tenant) as session:
            _read(session)

    order = zipf(accounts, 100_000, seed=1)
    measured: dict[str, list[float]] = {"ours": [], "default": []}
    for _ in range(rounds):
        for name, request in (("ours", ours), ("default", default.request)):
            measured[name].append(_per_second(request, tenants, order, seconds))
    registry.close()
    default.close()
    ratio = median(measured["ours"]) / median(measured["default"])
    name = f"Zipf over {accounts} accounts, {ENGINES} engines, {THREADS} threads, requests/s"
    report_row(
        name, f"{median(measured['ours']):.0f} to {median(measured['default']):.0f} = {ratio:.2f}", "at least 1.4"
    )
    _check_cap(world, tenants, evictions=1000)
    world.drop(tenants)


def _read(session: Session) -> None:
    if len(session.scalars(select(Agent)).all()) != ROWS:
        raise AssertionError("an account has not all of its agents")


def _per_second(request: Request, tenants: Sequence[Tenant], order: Sequence[int], seconds: float) -> float:
    turns, until = count(), time.monotonic() + seconds

    def work(_: int) -> int:
        done = 0
        while time.monotonic() < until:
            request(tenants[order[next(turns) % len(order)]])
            done += 1
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(work, range(THREADS))) / seconds


def _check_cap(world: World, tenants: Sequence[Tenant], evictions: int) -> None:
    """Load a registry with few connections until `evictions` have occurred, and count its sessions."""
    limits = PoolLimits(engines=ENGINES // 2, connections=CAP, wait=30)
    registry, most, done = EngineRegistry(limits, ConnectionSettings("cap")), 0, threading.Event()
    turns = count()

    def work(_: int) -> None:
        while registry.metrics().evictions < evictions:
            with registry.reading(tenants[next(turns) * 7 % len(tenants)]) as session:
                _read(session)

    def watch() -> int:
        seen = 0
        query = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cap'")
        with world.server.connect("postgres") as connection:
            while not done.is_set():
                seen = max(seen, connection.execute(query).scalar_one())
        return seen

    with ThreadPoolExecutor(THREADS + 1) as pool:
        watcher = pool.submit(watch)
        list(pool.map(work, range(THREADS)))
        done.set()
        most = watcher.result()
    registry.close()
    report_row(f"maximum number of sessions during {evictions} evictions under load", str(most), f"at most {CAP}")
