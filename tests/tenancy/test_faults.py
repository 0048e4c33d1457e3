"""A database that is gone, restarted, frozen, slow or of another release is refused for its own account only."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from sqlalchemy import Connection, TextClause, make_url, text
from sqlalchemy.exc import DBAPIError

from kataven.dev.postgres import EmbeddedPostgres
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import BehindSchema, SchemaMismatch, TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.testing import check_canary
from tests.support.clock import Clock
from tests.tenancy.conftest import MakeRegistry, MakeTenant, connected, create_tenant, drop_database

BACKEND = text("SELECT pg_backend_pid()")


def backend_of(registry: EngineRegistry, tenant: Tenant) -> int:
    with registry.reading(tenant) as session:
        return int(session.execute(BACKEND).scalar_one())


def refusal(registry: EngineRegistry, tenant: Tenant) -> TenantUnavailable:
    with pytest.raises(TenantUnavailable) as refused, registry.reading(tenant) as session:
        check_canary(session)
    return refused.value


def terminate(postgres: EmbeddedPostgres, backend: int) -> None:
    with connected(postgres) as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})


def test_a_dropped_database_is_unavailable_then_left_alone_and_found_again(
    make_registry: MakeRegistry, make_tenant: MakeTenant, postgres: EmbeddedPostgres, globex: Tenant
) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(breaker_failures=3, breaker_pause=2), clock=clock)
    tenant = make_tenant("dropped")
    backend_of(registry, tenant)
    drop_database(postgres, "dropped")
    assert [refusal(registry, tenant).reason for _ in range(4)] == ["no connection"] * 3 + ["it failed a moment ago"]
    assert registry.metrics().open_breakers == ("dropped",)
    assert backend_of(registry, globex)
    clock.advance(1.5)
    assert refusal(registry, tenant).retry_after_seconds == 2.0
    create_tenant(postgres, "dropped")
    clock.advance(1)
    assert backend_of(registry, tenant)
    assert registry.metrics().open_breakers == ()


def test_an_idle_connection_that_died_costs_no_request(
    make_registry: MakeRegistry, acme: Tenant, postgres: EmbeddedPostgres
) -> None:
    registry = make_registry()
    with registry.reading(acme), registry.reading(acme):
        pass
    first = backend_of(registry, acme)
    terminate(postgres, first)
    assert backend_of(registry, acme) != first


def test_a_connection_that_dies_under_a_session_is_unavailable_once(
    make_registry: MakeRegistry, acme: Tenant, postgres: EmbeddedPostgres
) -> None:
    registry = make_registry()

    def die() -> None:
        with registry.writing(acme) as session:
            terminate(postgres, session.execute(BACKEND).scalar_one())
            check_canary(session)

    with pytest.raises(TenantUnavailable, match="connection was lost"):
        die()
    assert backend_of(registry, acme)


def test_a_restarted_server_is_found_again_without_a_restart_of_ours(
    make_registry: MakeRegistry, other_server: EmbeddedPostgres
) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(connections_per_account=2), clock=clock)
    tenant = create_tenant(other_server, "acme")
    with registry.reading(tenant), registry.reading(tenant):
        pass
    other_server.stop()
    for _ in range(5):
        assert refusal(registry, tenant)
    other_server.start()
    clock.advance(60)
    tenant = Tenant("acme", make_url(other_server.url("acme")))
    with registry.reading(tenant) as one, registry.reading(tenant) as other:
        check_canary(one)
        check_canary(other)
    drop_database(other_server, "acme")


def test_a_frozen_backend_is_cut_loose_and_the_others_never_notice(
    make_registry: MakeRegistry, acme: Tenant, globex: Tenant
) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(hold=15), clock=clock)
    frozen, backend = Event(), backend_of(registry, acme)

    def ask() -> None:
        with registry.reading(acme) as session:
            os.kill(backend, signal.SIGSTOP)
            frozen.set()
            check_canary(session)

    with ThreadPoolExecutor(1) as pool:
        try:
            answer = pool.submit(ask)
            assert frozen.wait(10)
            registry.sweep()
            assert backend_of(registry, globex)
            clock.advance(16)
            while not registry.metrics().cut_connections:
                registry.sweep()
            with pytest.raises(TenantUnavailable, match="connection was lost"):
                answer.result(10)
        finally:
            os.kill(backend, signal.SIGCONT)
    assert backend_of(registry, acme) != backend


def test_a_slow_statement_ends_in_time_and_counts_for_nothing(make_registry: MakeRegistry, acme: Tenant) -> None:
    settings = ConnectionSettings(statement_timeout_seconds=0.02)
    registry = make_registry(PoolLimits(breaker_failures=1), settings)
    with pytest.raises(TenantUnavailable, match="a statement took too long"), registry.reading(acme) as session:
        session.execute(text("SELECT pg_sleep(30)"))
    assert registry.metrics().open_breakers == ()
    assert backend_of(registry, acme)


def test_a_lock_is_waited_for_only_so_long(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(connection_settings=ConnectionSettings(lock_timeout_seconds=0.02))
    lock = text("LOCK TABLE notes")
    with registry.writing(acme) as session:
        session.execute(lock)
        with pytest.raises(TenantUnavailable, match="a lock was not free in time"), registry.writing(acme) as other:
            other.execute(lock)


def test_a_database_that_lets_nobody_in_is_unavailable(
    make_registry: MakeRegistry, make_tenant: MakeTenant, postgres: EmbeddedPostgres
) -> None:
    tenant = make_tenant("crowded")
    registry = make_registry()
    with connected(postgres) as connection:
        connection.execute(text("ALTER DATABASE crowded ALLOW_CONNECTIONS false"))
        assert refusal(registry, tenant).reason == "no connection"
        connection.execute(text("ALTER DATABASE crowded ALLOW_CONNECTIONS true"))
    assert backend_of(registry, tenant)


class Serves:
    """A schema window of two revisions, over a database that says its own."""

    served, head = "revisions 2 to 3", "3"

    def __init__(self, have: str | None) -> None:
        self.have = have
        self.asked = 0

    def serves(self, revision: str | None) -> bool:
        return revision in {"2", "3"}

    def revision_of(self, connection: Connection) -> str | None:
        self.asked += 1
        connection.execute(text("SELECT 1"))
        return self.have


def test_a_schema_that_this_code_does_not_serve_is_refused_by_name(make_registry: MakeRegistry, acme: Tenant) -> None:
    old = Tenant("acme", acme.url, revision="1")
    registry = make_registry(schema=Serves("1"))
    with pytest.raises(SchemaMismatch, match="'acme' is at schema 1, and this code serves revisions 2 to 3"):
        registry.reading(old).__enter__()
    with pytest.raises(SchemaMismatch), registry.writing(old):
        pass


def test_the_database_is_asked_only_when_there_is_a_doubt_and_has_the_last_word(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    schema = Serves("2")
    registry = make_registry(schema=schema)
    for revision, asked in (("2", 0), (None, 0), ("1", 1)):
        with registry.writing(Tenant("acme", acme.url, revision)) as session:
            check_canary(session)
        assert schema.asked == asked


MISSING = text("SELECT * FROM nothing")
REFUSED_STATEMENTS = [
    MISSING,
    text("SELECT nothing FROM pg_class"),
    text("SELECT nothing()"),
    text("INSERT INTO tenancy_canary.owner VALUES ('x') ON CONFLICT ((account || 'y')) DO NOTHING"),
    text("INSERT INTO tenancy_canary.owner VALUES (NULL)"),
    text("SELECT 'mauve'::pg_catalog.bool"),
]
MODES = ["reading", "writing", "recording_usage"]


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_table_at_an_unserved_schema_is_a_mismatch(
    make_registry: MakeRegistry, acme: Tenant, mode: str
) -> None:
    with pytest.raises(SchemaMismatch), getattr(make_registry(schema=Serves(None)), mode)(acme) as session:
        session.execute(MISSING)


@pytest.mark.parametrize("statement", REFUSED_STATEMENTS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_served_schema_before_the_head_that_lacks_something_is_a_mismatch_naming_both(
    make_registry: MakeRegistry, acme: Tenant, mode: str, statement: TextClause
) -> None:
    registry = make_registry(schema=Serves("2"))
    says = "'acme' is at schema 2, and this request needs 3"
    with pytest.raises(BehindSchema, match=says), getattr(registry, mode)(acme) as session:
        session.execute(statement)
    with registry.writing(acme) as session:
        check_canary(session)


@pytest.mark.parametrize("statement", REFUSED_STATEMENTS, ids=str)
@pytest.mark.parametrize("revision", [None, "3"])
def test_what_is_missing_at_the_head_is_a_bug(
    make_registry: MakeRegistry, acme: Tenant, revision: str | None, statement: TextClause
) -> None:
    registry = make_registry(schema=Serves("3"))
    with pytest.raises(DBAPIError), registry.writing(Tenant("acme", acme.url, revision)) as session:
        session.execute(statement)


def test_a_statement_that_failed_before_a_migration_ended_is_a_mismatch_after_it(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    registry = make_registry(schema=Serves("3"))  # by the time that it is asked
    with pytest.raises(BehindSchema, match="at schema 2"), registry.writing(Tenant("acme", acme.url, "2")) as session:
        session.execute(MISSING)


def test_another_error_at_a_schema_before_the_head_stays_what_it_is(make_registry: MakeRegistry, acme: Tenant) -> None:
    schema = Serves("2")
    with pytest.raises(DBAPIError), make_registry(schema=schema).writing(acme) as session:
        session.execute(text("SELECT 1/0"))
    assert schema.asked == 0
