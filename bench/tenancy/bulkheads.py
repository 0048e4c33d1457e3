"""The latency of other accounts while one account's database is frozen or stopped, or its pool is full.

Threads that represent a worker's send requests for the other accounts at a constant rate, before and during each fault.
Two more threads send requests for the affected account during the whole time.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

from sqlalchemy import select, text

from bench.tenancy.world import Agent, World, percentile, report_row
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry

THREADS, PAUSE = 4, 0.02


def run(world: World, *, seconds: float, rounds: int) -> None:
    """Print the other accounts' p99 during each fault, compared with the time immediately before it."""
    tenants = world.accounts("bulk", 20)
    affected, others = tenants[0], tenants[1:]
    settings = ConnectionSettings("bulkheads", statement_timeout_seconds=2.0)
    for name, fault in (("frozen (SIGSTOP)", _frozen), ("stopped", _stopped), ("out of connections", _full)):
        ratios = []
        for _ in range(rounds):
            registry = EngineRegistry(PoolLimits(hold=3.0), settings)
            registry.start()
            _p99(registry, affected, others, seconds / 2)  # to warm up
            before = _p99(registry, affected, others, seconds)
            with fault(world, registry, affected):
                during = _p99(registry, affected, others, seconds)
            ratios.append(during / before)
            _wait_until_available(registry, affected)
            registry.close()
        report_row(
            f"other accounts' p99 while one is {name}, compared with before", f"{median(ratios):.2f}", "at most 1.2"
        )
    world.drop(tenants)


def _p99(registry: EngineRegistry, affected: Tenant, others: Sequence[Tenant], seconds: float) -> float:
    until, done = time.monotonic() + seconds, threading.Event()

    def request_others(thread: int) -> list[float]:
        taken, turn = [], thread
        while time.monotonic() < until:
            started_at = time.perf_counter()
            with registry.reading(others[turn % len(others)]) as session:
                session.scalars(select(Agent)).all()
            taken.append(time.perf_counter() - started_at)
            turn += THREADS
            done.wait(PAUSE)
        return taken

    def request_affected(_: int) -> None:
        while time.monotonic() < until:
            try:
                with registry.reading(affected) as session:
                    session.scalars(select(Agent)).all()
            except TenantUnavailable:
                pass
            done.wait(PAUSE)

    with ThreadPoolExecutor(THREADS + 2) as pool:
        futures = [pool.submit(request_others, thread) for thread in range(THREADS)]
        for thread in range(2):
            pool.submit(request_affected, thread)
        return percentile([sample for thread in futures for sample in thread.result()], 99)


@contextmanager
def _frozen(world: World, registry: EngineRegistry, affected: Tenant) -> Iterator[None]:
    """Pause the backends that serve the account (SIGSTOP), including those that start later."""
    stopped: set[int] = set()
    over = threading.Event()

    def freeze() -> None:
        backends = text("SELECT pid FROM pg_stat_activity WHERE datname = :name AND backend_type = 'client backend'")
        with world.server.connect("postgres") as connection:
            while not over.wait(0.05):
                found = set(connection.execute(backends, {"name": affected.url.database}).scalars())
                for pid in found - stopped:
                    os.kill(pid, signal.SIGSTOP)
                stopped.update(found)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    try:
        yield
    finally:
        over.set()
        freezer.join()
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _stopped(world: World, registry: EngineRegistry, affected: Tenant) -> Iterator[None]:
    """Terminate the account's sessions and reject new ones."""
    name = affected.url.database
    with world.server.connect("postgres") as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        terminate = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(terminate, {"name": name}).scalar_one()
        yield
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@contextmanager
def _full(world: World, registry: EngineRegistry, affected: Tenant) -> Iterator[None]:
    """Hold all connections that the account can have, for as long as allowed."""
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            try:
                with registry.reading(affected) as session:
                    session.execute(text("SELECT pg_sleep(1)"))
            except TenantUnavailable:
                over.wait(0.01)

    holders = [threading.Thread(target=hold) for _ in range(2)]
    for holder in holders:
        holder.start()
    try:
        yield
    finally:
        over.set()
        for holder in holders:
            holder.join()


def _wait_until_available(registry: EngineRegistry, affected: Tenant) -> None:
    """Wait until the account is available again, without restarting anything."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with registry.reading(affected) as session:
                session.scalars(select(Agent)).all()
                return
        except TenantUnavailable as error:
            threading.Event().wait(error.retry_after_seconds)
    raise AssertionError("the account did not become available again")
