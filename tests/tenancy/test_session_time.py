"""One session waits at most once for a server that does not respond, whatever the state of its pool."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import TenantUnavailable
from kataven.tenancy.pg_connection import PgConnection
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.testing import check_canary
from tests.support.clock import Clock
from tests.support.waiting import wait_until
from tests.tenancy.conftest import MakeRegistry

HOLD = 8


def is_cut_during_a_session(registry: EngineRegistry, tenant: Tenant, clock: Clock, seconds: float) -> bool:
    """Whether a session whose statement takes `seconds` is cut before that statement returns."""
    cut_before = registry.metrics().cut_connections
    try:
        with registry.reading(tenant) as session:
            clock.advance(seconds)
            registry.sweep()
            check_canary(session)
    except TenantUnavailable:
        pass
    return registry.metrics().cut_connections > cut_before


@pytest.mark.parametrize(("seconds", "cut"), [(HOLD - 1, False), (HOLD + 1, True)])
def test_a_session_ends_after_its_hold(make_registry: MakeRegistry, acme: Tenant, seconds: float, *, cut: bool) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(hold=HOLD), clock=clock)
    assert is_cut_during_a_session(registry, acme, clock, seconds) is cut


def test_the_time_to_connect_counts_toward_the_hold(
    make_registry: MakeRegistry, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, connect = Clock(), PgConnection.__init__

    def connect_slowly(connection: PgConnection, *args: Any, **options: Any) -> None:
        clock.advance(HOLD - 1)
        connect(connection, *args, **options)

    registry = make_registry(PoolLimits(hold=HOLD), clock=clock)
    monkeypatch.setattr(PgConnection, "__init__", connect_slowly)
    assert is_cut_during_a_session(registry, acme, clock, 2)


def test_the_wait_for_another_sessions_connection_counts_toward_the_hold(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(connections_per_account=1, wait=60, hold=HOLD), clock=clock)
    held, release = Event(), Event()

    def hold_the_only_connection() -> None:
        with registry.reading(acme) as session:
            check_canary(session)
            held.set()
            assert release.wait(30)

    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(hold_the_only_connection)
        assert held.wait(30)
        waiter = pool.submit(is_cut_during_a_session, registry, acme, clock, 2)
        wait_until(lambda: registry.metrics().waits == 1, 30)
        clock.advance(HOLD - 1)
        release.set()
        assert waiter.result(30)
        holder.result(30)
