"""The engine registry: building, sharing, evicting and closing engines."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy import dialect
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import RegistryClosed, TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.testing import assert_no_leaks, check_canary
from tests.support.clock import Clock
from tests.tenancy.conftest import MakeRegistry, MakeTenant, connected
from tests.tenancy.models import Note, Tag


def server_sessions(postgres: EmbeddedPostgres, application_name: str) -> int:
    with connected(postgres) as connection:
        count = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
        return int(connection.execute(count, {"name": application_name}).scalar_one())


def test_engines_are_built_on_first_use(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry()
    assert registry.metrics().engines == 0
    with registry.reading(acme) as session:
        check_canary(session)
    metrics = registry.metrics()
    assert (metrics.engines, metrics.builds, metrics.connections) == (1, 1, 1)
    assert 0 < metrics.build_seconds == metrics.slowest_build_seconds


def test_one_thread_builds_an_engine_while_others_wait(
    make_registry: MakeRegistry, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make_registry(PoolLimits(connections=8, connections_per_account=8))
    building, proceed = threading.Event(), threading.Event()
    create_engine = dialect.create_engine

    def create_slowly(*args: object, **options: object) -> object:
        building.set()
        assert proceed.wait(10)
        return create_engine(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dialect, "create_engine", create_slowly)

    def read() -> str:
        with registry.reading(acme) as session:
            return str(session.execute(text("SELECT current_database()")).scalar_one())

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(read) for _ in range(8)]
        assert building.wait(10)
        proceed.set()
        assert {result.result() for result in results} == {"acme"}
    assert registry.metrics().builds == 1


def test_a_failed_build_can_be_retried(
    make_registry: MakeRegistry, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make_registry()

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(dialect, "create_engine", fail)
        with pytest.raises(MemoryError), registry.reading(acme):
            pass
    with registry.reading(acme) as session:
        check_canary(session)


def test_writing_commits_at_the_end_and_rolls_back_on_an_error(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry()
    with registry.writing(acme) as session:
        session.add(Note(text="kept"))
    with pytest.raises(IntegrityError), registry.writing(acme) as session:
        session.add_all([Note(text="lost"), Tag(note_id=-1, word="of no note")])
    with registry.reading(acme) as session:
        assert session.scalars(select(Note.text)).all() == ["kept"]


def test_an_error_of_a_statement_is_unchanged_and_does_not_open_the_breaker(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    registry = make_registry()
    with pytest.raises(IntegrityError), registry.writing(acme) as session:
        session.execute(text("INSERT INTO tags (note_id, word) VALUES (-1, 'x')"))
    assert registry.metrics().open_breakers == ()


def test_the_least_recently_used_engine_is_evicted(
    make_registry: MakeRegistry, tenants: list[Tenant], postgres: EmbeddedPostgres
) -> None:
    registry = make_registry(PoolLimits(engines=2), ConnectionSettings(application_name="lru"))
    for index in (0, 1, 0, 2, 0):  # 2 evicts 1
        with registry.reading(tenants[index]) as session:
            check_canary(session)
    metrics = registry.metrics()
    assert (metrics.engines, metrics.builds, metrics.evictions) == (2, 3, 1)
    assert metrics.connections == server_sessions(postgres, "lru") == 2


def test_an_engine_in_use_is_never_evicted(make_registry: MakeRegistry, tenants: list[Tenant]) -> None:
    registry = make_registry(PoolLimits(engines=1, wait=0.05))
    with registry.reading(tenants[0]) as session:
        with pytest.raises(TenantUnavailable, match="every engine is in use"), registry.reading(tenants[1]):
            pass
        check_canary(session)
    with registry.reading(tenants[1]) as session:
        check_canary(session)


def test_a_request_that_waits_for_an_engine_gets_the_first_one_released(
    make_registry: MakeRegistry, tenants: list[Tenant]
) -> None:
    registry = make_registry(PoolLimits(engines=1, wait=10))
    with ThreadPoolExecutor(1) as pool:

        def read_globex() -> None:
            with registry.reading(tenants[1]) as session:
                check_canary(session)

        with registry.reading(tenants[0]) as session:
            waiter = pool.submit(read_globex)
            check_canary(session)
        waiter.result()
    assert registry.metrics().evictions == 1


def test_forget_lets_sessions_in_progress_finish(
    make_registry: MakeRegistry, acme: Tenant, postgres: EmbeddedPostgres
) -> None:
    registry = make_registry(connection_settings=ConnectionSettings(application_name="forget"))
    with registry.writing(acme) as session:
        session.add(Note(text="in flight"))
        registry.forget("acme")
        assert registry.metrics().engines == 0
        assert server_sessions(postgres, "forget") == 1
    assert server_sessions(postgres, "forget") == 0
    with registry.reading(acme) as session:
        assert session.scalars(select(Note.text)).one() == "in flight"
    registry.forget("unknown")


def test_a_changed_url_replaces_the_engine(make_registry: MakeRegistry, make_tenant: MakeTenant) -> None:
    registry = make_registry()
    here, there = make_tenant("here"), make_tenant("there")
    moved = Tenant("here", there.url)

    def database(tenant: Tenant) -> str:
        with registry.reading(tenant) as session:
            return str(session.execute(text("SELECT current_database()")).scalar_one())

    assert [database(here), database(moved), database(here)] == ["here", "there", "here"]
    assert registry.metrics().engines == 1


def test_idle_connections_and_engines_are_closed(
    make_registry: MakeRegistry, tenants: list[Tenant], postgres: EmbeddedPostgres
) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(idle=60), ConnectionSettings(application_name="idle"), clock=clock)
    with registry.reading(tenants[0]), registry.reading(tenants[0]), registry.reading(tenants[1]):
        pass
    clock.advance(59)
    with registry.reading(tenants[0]):
        pass
    registry.sweep()
    assert (registry.metrics().engines, server_sessions(postgres, "idle")) == (2, 3)
    clock.advance(2)
    registry.sweep()
    assert (registry.metrics().engines, server_sessions(postgres, "idle")) == (1, 1)
    assert registry.metrics().connections == 1


def test_the_sweeper_runs_only_between_start_and_stop(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(PoolLimits(idle=0, sweep=0.001))
    before = set(threading.enumerate())
    with registry.reading(acme):
        pass
    registry.start()
    while registry.metrics().engines:
        pass
    registry.stop()
    assert "tenancy-sweep" not in [thread.name for thread in set(threading.enumerate()) - before]


def test_a_closed_registry_rejects_sessions_and_closes_connections(
    make_registry: MakeRegistry, acme: Tenant, postgres: EmbeddedPostgres
) -> None:
    registry = make_registry(connection_settings=ConnectionSettings(application_name="closed"))
    with registry.reading(acme) as session:
        registry.close()
        check_canary(session)
        with pytest.raises(RegistryClosed), registry.reading(acme):
            pass
    assert server_sessions(postgres, "closed") == 0
    assert_no_leaks(registry)


def test_the_leak_check_finds_a_leak(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry()
    with registry.reading(acme), pytest.raises(AssertionError, match="1 connections are still in use"):
        assert_no_leaks(registry)


def test_connections_have_a_name_and_timeouts(make_registry: MakeRegistry, acme: Tenant) -> None:
    settings = ConnectionSettings(application_name="named", statement_timeout_seconds=7, lock_timeout_seconds=1.5)
    with_options = Tenant("acme", acme.url.update_query_dict({"options": "-c work_mem=2MB"}))
    with make_registry(connection_settings=settings).reading(with_options) as session:
        shown = {
            name: session.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("application_name", "statement_timeout", "lock_timeout", "work_mem")
        }
    assert shown == {
        "application_name": "named",
        "statement_timeout": "7s",
        "lock_timeout": "1500ms",
        "work_mem": "2MB",
    }


def test_a_registry_that_is_closed_during_a_build_keeps_no_engine(
    make_registry: MakeRegistry, acme: Tenant, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make_registry(connection_settings=ConnectionSettings(application_name="late"))
    create_engine = dialect.create_engine

    def create_late(*args: object, **options: object) -> object:
        registry.close()
        return create_engine(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dialect, "create_engine", create_late)
    with registry.reading(acme) as session:
        check_canary(session)
    assert (registry.metrics().engines, server_sessions(postgres, "late")) == (0, 0)
