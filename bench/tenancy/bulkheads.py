"""One account in trouble: frozen, stopped, or its pool full. What do the others notice?

Threads that stand for a worker's send requests for the other accounts at a steady pace, before and during each trouble;
two more keep asking for the account in trouble all the while.
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

from bench.tenancy.world import Agent, World, percentile, tell
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry

THREADS, PAUSE = 4, 0.02


def run(world: World, *, seconds: float, rounds: int) -> None:
    """Print the others' p99 in each trouble, next to just before it."""
    tenants = world.accounts("bulk", 20)
    victim, others = tenants[0], tenants[1:]
    settings = ConnectionSettings("bulkheads", statement_timeout_seconds=2.0)
    for name, trouble in (("frozen (SIGSTOP)", _frozen), ("stopped", _stopped), ("its pool full", _full)):
        ratios = []
        for _ in range(rounds):
            registry = EngineRegistry(PoolLimits(hold=3.0), settings)
            registry.start()
            _p99(registry, victim, others, seconds / 2)  # to warm up
            before = _p99(registry, victim, others, seconds)
            with trouble(world, registry, victim):
                during = _p99(registry, victim, others, seconds)
            ratios.append(during / before)
            _wait_until_back(registry, victim)
            registry.close()
        tell(f"the others' p99 while one account is {name}, next to before", f"{median(ratios):.2f}", "at most 1.2")
    world.drop(tenants)


def _p99(registry: EngineRegistry, victim: Tenant, others: Sequence[Tenant], seconds: float) -> float:
    until, done = time.monotonic() + seconds, threading.Event()

    def ask(thread: int) -> list[float]:
        taken, turn = [], thread
        while time.monotonic() < until:
            began = time.perf_counter()
            with registry.reading(others[turn % len(others)]) as session:
                session.scalars(select(Agent)).all()
            taken.append(time.perf_counter() - began)
            turn += THREADS
            done.wait(PAUSE)
        return taken

    def ask_the_victim(_: int) -> None:
        while time.monotonic() < until:
            try:
                with registry.reading(victim) as session:
                    session.scalars(select(Agent)).all()
            except TenantUnavailable:
                pass
            done.wait(PAUSE)

    with ThreadPoolExecutor(THREADS + 2) as pool:
        asking = [pool.submit(ask, thread) for thread in range(THREADS)]
        for thread in range(2):
            pool.submit(ask_the_victim, thread)
        return percentile([sample for thread in asking for sample in thread.result()], 99)


@contextmanager
def _frozen(world: World, registry: EngineRegistry, victim: Tenant) -> Iterator[None]:
    """Stop the backends that serve the account, now and again: those that come after them too."""
    stopped: set[int] = set()
    over = threading.Event()

    def freeze() -> None:
        backends = text("SELECT pid FROM pg_stat_activity WHERE datname = :name AND backend_type = 'client backend'")
        with world.server.connect("postgres") as connection:
            while not over.wait(0.05):
                found = set(connection.execute(backends, {"name": victim.url.database}).scalars())
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
def _stopped(world: World, registry: EngineRegistry, victim: Tenant) -> Iterator[None]:
    """End the account's sessions and let nobody in."""
    name = victim.url.database
    with world.server.connect("postgres") as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        end = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(end, {"name": name}).scalar_one()
        yield
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@contextmanager
def _full(world: World, registry: EngineRegistry, victim: Tenant) -> Iterator[None]:
    """Hold every connection that the account may have, for as long as one may be held."""
    over = threading.Event()

    def hold() -> None:
        while not over.is_set():
            try:
                with registry.reading(victim) as session:
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


def _wait_until_back(registry: EngineRegistry, victim: Tenant) -> None:
    """The account has to come back without a restart of anything."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with registry.reading(victim) as session:
                session.scalars(select(Agent)).all()
                return
        except TenantUnavailable as error:
            threading.Event().wait(error.retry_after_seconds)
    raise AssertionError("the account did not come back")
