"""Connection limits per account, per process and per host, and what requests get at each limit."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.slots import HostSlots
from kataven.tenancy.testing import check_canary
from tests.support.waiting import wait_until
from tests.tenancy.conftest import MakeRegistry, connected

HOLD_A_SLOT = """
import sys
from pathlib import Path
from kataven.tenancy.serving.slots import HostSlots
slots = HostSlots(Path(sys.argv[1]), 2)
print(slots.take(), flush=True)
sys.stdin.read()
"""


@contextmanager
def busy(registry: EngineRegistry, tenant: Tenant, sessions: int) -> Iterator[None]:
    """While the block runs, this many sessions of the tenant are open."""
    with ExitStack() as stack:
        for _ in range(sessions):
            check_canary(stack.enter_context(registry.reading(tenant)))
        yield


def test_an_account_at_its_connection_limit_is_rejected_and_others_are_served(
    make_registry: MakeRegistry, acme: Tenant, globex: Tenant
) -> None:
    registry = make_registry(PoolLimits(connections_per_account=2, wait=0.05))
    with busy(registry, acme, sessions=2):
        with pytest.raises(TenantUnavailable, match="acme") as rejected, registry.reading(acme):
            pass
        with registry.reading(globex) as session:
            check_canary(session)
    assert rejected.value.retry_after_seconds > 0
    with registry.reading(acme) as session:
        check_canary(session)


def test_requests_do_not_queue_for_an_account_whose_connections_are_stuck(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    registry = make_registry(PoolLimits(connections_per_account=1, wait=0.05))
    with busy(registry, acme, sessions=1):
        with pytest.raises(TenantUnavailable, match="no connection became available"), registry.reading(acme):
            pass
        queued = registry.metrics().waits
        with pytest.raises(TenantUnavailable, match="none was returned in time"), registry.reading(acme):
            pass
        assert registry.metrics().waits == queued == 1


def test_a_queued_request_gets_the_returned_connection(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(PoolLimits(connections_per_account=1, wait=30))

    def backend() -> int:
        with registry.reading(acme) as session:
            return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())

    first = backend()
    with ThreadPoolExecutor(1) as pool:
        with busy(registry, acme, sessions=1):
            waiter = pool.submit(backend)
            while not registry.metrics().waits:
                pass
        assert waiter.result() == first
    assert registry.metrics().waited_seconds > 0


def test_the_longest_idle_connection_of_any_account_is_closed_at_the_limit(
    make_registry: MakeRegistry, tenants: list[Tenant]
) -> None:
    registry = make_registry(PoolLimits(connections=2))
    for tenant in (tenants[0], tenants[1], tenants[0], tenants[2]):
        with registry.reading(tenant) as session:
            check_canary(session)
    metrics = registry.metrics()
    assert (metrics.connections, metrics.displaced_connections, metrics.engines) == (2, 1, 3)
    with busy(registry, tenants[0], sessions=1), busy(registry, tenants[2], sessions=1):
        assert registry.metrics().displaced_connections == 1, "the connection of globex was displaced"


def test_a_request_at_the_process_limit_reuses_a_returned_connection_of_its_account(
    make_registry: MakeRegistry, acme: Tenant, globex: Tenant
) -> None:
    registry = make_registry(PoolLimits(connections=2, connections_per_account=2, wait=30))
    with ThreadPoolExecutor(1) as pool, busy(registry, globex, sessions=1):
        with busy(registry, acme, sessions=1):
            waiter = pool.submit(lambda: busy(registry, acme, sessions=1).__enter__())
            while not registry.metrics().waits:
                pass
        waiter.result()
    assert registry.metrics().displaced_connections == 0


def test_a_failed_connection_attempt_releases_its_capacity(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(PoolLimits(connections=1))
    nowhere = Tenant("nowhere", acme.url.set(database="nowhere"))
    for _ in range(3):
        with pytest.raises(TenantUnavailable), registry.reading(nowhere):
            pass
    with registry.reading(acme) as session:
        check_canary(session)


def test_all_processes_of_a_host_share_its_slots(
    make_registry: MakeRegistry, tenants: list[Tenant], tmp_path: Path
) -> None:
    limits = PoolLimits(connections=2, wait=0.05)
    one, other = (make_registry(limits, host_slots=HostSlots(tmp_path, 3)) for _ in range(2))
    with busy(one, tenants[0], sessions=1), busy(one, tenants[1], sessions=1), busy(other, tenants[2], sessions=1):
        rejected = other.reading(tenants[3])
        with pytest.raises(TenantUnavailable, match="no connection became available"):
            rejected.__enter__()
    with other.reading(tenants[3]) as session:
        check_canary(session)
    assert one.metrics().connections + other.metrics().connections <= 3


def test_a_closed_connection_counts_until_its_backend_has_exited(
    make_registry: MakeRegistry, acme: Tenant, globex: Tenant, tmp_path: Path
) -> None:
    one, other = (make_registry(PoolLimits(wait=0.05), host_slots=HostSlots(tmp_path, 1)) for _ in range(2))
    with one.reading(acme) as session:
        backend = int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(TenantUnavailable, match="still holds"), one.reading(globex):
            pass
        assert one.metrics().connections == 0
        for registry in (one, other):
            with pytest.raises(TenantUnavailable, match="no connection became available"), registry.reading(globex):
                pass
    finally:
        os.kill(backend, signal.SIGCONT)
    wait_until(lambda: not Path(f"/proc/{backend}").exists(), 10)
    for registry in (one, other):
        registry.sweep()
        with registry.reading(globex) as session:
            check_canary(session)
        one.forget(globex.account)


def test_a_process_closes_idle_connections_when_another_process_waits_for_a_slot(
    make_registry: MakeRegistry, acme: Tenant, globex: Tenant, tmp_path: Path
) -> None:
    idle_process = make_registry(host_slots=HostSlots(tmp_path, 1))
    waiting_process = make_registry(PoolLimits(wait=30), host_slots=HostSlots(tmp_path, 1))
    with idle_process.reading(acme) as session:
        check_canary(session)
    idle_process.sweep()
    assert idle_process.metrics().connections == 1, "no process waits for a slot yet"
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(lambda: busy(waiting_process, globex, sessions=1).__enter__())
        while idle_process.metrics().connections:
            idle_process.sweep()
        waiter.result()


def test_a_killed_process_releases_its_slots(tmp_path: Path) -> None:
    slots = HostSlots(tmp_path, 2)
    command = [sys.executable, "-c", HOLD_A_SLOT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert (slots.take(), slots.take()) == (True, False)
        holder.kill()
        holder.wait()
    assert (slots.take(), slots.take()) == (True, False)
    slots.release()
    slots.release()


@pytest.mark.parametrize("engines", [3, 8])
def test_the_server_never_has_more_sessions_than_the_limit_during_hundreds_of_evictions(
    make_registry: MakeRegistry, tenants: list[Tenant], postgres: EmbeddedPostgres, engines: int
) -> None:
    name = f"cap{engines}"
    registry = make_registry(
        PoolLimits(engines=engines, connections=3, connections_per_account=2, wait=30), ConnectionSettings(name)
    )
    done = threading.Event()

    def work(thread: int) -> None:
        for turn in range(60):
            with registry.reading(tenants[(thread * 5 + turn * 3) % len(tenants)]) as session:
                check_canary(session)

    def watch() -> int:
        most = 0
        with connected(postgres) as connection:
            count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
            while not done.is_set():
                most = max(most, connection.execute(count, {"name": name}).scalar_one())
        return most

    with ThreadPoolExecutor(7) as pool:
        watcher = pool.submit(watch)
        workers = [pool.submit(work, thread) for thread in range(6)]
        for worker in workers:
            worker.result()
        done.set()
        assert 2 <= watcher.result() <= 3
    metrics = registry.metrics()
    assert metrics.evictions + metrics.displaced_connections > 100
