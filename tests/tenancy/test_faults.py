"""A missing, restarted, frozen, slow or outdated database affects only its own account."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from sqlalchemy import Connection, TextClause, make_url, text
from sqlalchemy.exc import DBAPIError

from kataven.dev.embedded.postgres import EmbeddedPostgres
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


def rejection(registry: EngineRegistry, tenant: Tenant) -> TenantUnavailable:
    with pytest.raises(TenantUnavailable) as rejected, registry.reading(tenant) as session:
        check_canary(session)
    return rejected.value


def terminate(postgres: EmbeddedPostgres, backend: int) -> None:
    with connected(postgres) as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})


def test_a_dropped_database_opens_the_breaker_and_is_used_again_once_it_exists(
    make_registry: MakeRegistry, make_tenant: MakeTenant, postgres: EmbeddedPostgres, globex: Tenant
) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(breaker_failures=3, breaker_pause=2), clock=clock)
    tenant = make_tenant("dropped")
    backend_of(registry, tenant)
    drop_database(postgres, "dropped")
    assert [rejection(registry, tenant).reason for _ in range(4)] == ["no connection"] * 3 + [
        "its circuit breaker is open"
    ]
    assert registry.metrics().open_breakers == ("dropped",)
    assert backend_of(registry, globex)
    clock.advance(1.5)
    assert rejection(registry, tenant).retry_after_seconds == 2.0
    create_tenant(postgres, "dropped")
    clock.advance(1)
    assert backend_of(registry, tenant)
    assert registry.metrics().open_breakers == ()


def test_a_terminated_idle_connection_is_replaced_without_a_failed_request(
    make_registry: MakeRegistry, acme: Tenant, postgres: EmbeddedPostgres
) -> None:
    registry = make_registry()
    with registry.reading(acme), registry.reading(acme):
        pass
    first = backend_of(registry, acme)
    terminate(postgres, first)
    assert backend_of(registry, acme) != first


def test_a_connection_terminated_during_a_session_fails_only_that_session(
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


def test_a_restarted_server_is_used_again_without_a_restart_of_the_process(
    make_registry: MakeRegistry, other_server: EmbeddedPostgres
) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(connections_per_account=2), clock=clock)
    tenant = create_tenant(other_server, "acme")
    with registry.reading(tenant), registry.reading(tenant):
        pass
    other_server.stop()
    for _ in range(5):
        assert rejection(registry, tenant)
    other_server.start()
    clock.advance(60)
    tenant = Tenant("acme", make_url(other_server.url("acme")))
    with registry.reading(tenant) as one, registry.reading(tenant) as other:
        check_canary(one)
        check_canary(other)
    drop_database(other_server, "acme")


def test_a_frozen_backend_is_cut_and_other_accounts_are_unaffected(
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


def test_a_statement_timeout_does_not_count_toward_the_breaker(make_registry: MakeRegistry, acme: Tenant) -> None:
    settings = ConnectionSettings(statement_timeout_seconds=0.02)
    registry = make_registry(PoolLimits(breaker_failures=1), settings)
    with pytest.raises(TenantUnavailable, match="a statement took too long"), registry.reading(acme) as session:
        session.execute(text("SELECT pg_sleep(30)"))
    assert registry.metrics().open_breakers == ()
    assert backend_of(registry, acme)


def test_waiting_for_a_lock_times_out(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(connection_settings=ConnectionSettings(lock_timeout_seconds=0.02))
    lock = text("LOCK TABLE notes")
    with registry.writing(acme) as session:
        session.execute(lock)
        with (
            pytest.raises(TenantUnavailable, match="a lock was not available in time"),
            registry.writing(acme) as other,
        ):
            other.execute(lock)


def test_a_database_that_rejects_connections_is_unavailable(
    make_registry: MakeRegistry, make_tenant: MakeTenant, postgres: EmbeddedPostgres
) -> None:
    tenant = make_tenant("crowded")
    registry = make_registry()
    with connected(postgres) as connection:
        connection.execute(text("ALTER DATABASE crowded ALLOW_CONNECTIONS false"))
        assert rejection(registry, tenant).reason == "no connection"
        connection.execute(text("ALTER DATABASE crowded ALLOW_CONNECTIONS true"))
    assert backend_of(registry, tenant)


class Serves:
    """A schema window of two revisions, with the given revision in the database."""

    served, head = "revisions 2 to 3", "3"

    def __init__(self, have: str | None) -> None:
        self.have = have
        self.reads = 0

    def serves(self, revision: str | None) -> bool:
        return revision in {"2", "3"}

    def revision_of(self, connection: Connection) -> str | None:
        self.reads += 1
        connection.execute(text("SELECT 1"))
        return self.have


def test_an_unserved_schema_is_rejected_with_its_revision(make_registry: MakeRegistry, acme: Tenant) -> None:
    old = Tenant("acme", acme.url, revision="1")
    registry = make_registry(schema=Serves("1"))
    with pytest.raises(SchemaMismatch, match="'acme' is at schema 1; this code serves revisions 2 to 3"):
        registry.reading(old).__enter__()
    with pytest.raises(SchemaMismatch), registry.writing(old):
        pass


def test_the_database_is_queried_only_for_an_unserved_directory_revision_and_is_authoritative(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    schema = Serves("2")
    registry = make_registry(schema=schema)
    for revision, reads in (("2", 0), (None, 0), ("1", 1)):
        with registry.writing(Tenant("acme", acme.url, revision)) as session:
            check_canary(session)
        assert schema.reads == reads


MISSING = text("SELECT * FROM nothing")
REFUSED_STATEMENTS = [
    MISSING,
    text("SELECT nothing FROM pg_class"),
    text("SELECT nothing()"),
    text("INSERT INTO tenancy_canary.owner VALUES ('x') ON CONFLICT ((account || 'y')) DO NOTHING"),
    text("INSERT INTO tenancy_canary.owner VALUES (NULL)"),
    text("SELECT 'mauve'::pg_catalog.bool"),
]
MODES = ["reading", "writing", "autocommit"]


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_table_at_an_unserved_schema_raises_schema_mismatch(
    make_registry: MakeRegistry, acme: Tenant, mode: str
) -> None:
    with pytest.raises(SchemaMismatch), getattr(make_registry(schema=Serves(None)), mode)(acme) as session:
        session.execute(MISSING)


@pytest.mark.parametrize("statement", REFUSED_STATEMENTS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_statement_that_needs_a_newer_schema_raises_behind_schema_with_both_revisions(
    make_registry: MakeRegistry, acme: Tenant, mode: str, statement: TextClause
) -> None:
    registry = make_registry(schema=Serves("2"))
    message = "'acme' is at schema 2; this request needs 3"
    with pytest.raises(BehindSchema, match=message), getattr(registry, mode)(acme) as session:
        session.execute(statement)
    with registry.writing(acme) as session:
        check_canary(session)


@pytest.mark.parametrize("statement", REFUSED_STATEMENTS, ids=str)
@pytest.mark.parametrize("revision", [None, "3"])
def test_a_missing_object_at_the_head_raises_the_database_error(
    make_registry: MakeRegistry, acme: Tenant, revision: str | None, statement: TextClause
) -> None:
    registry = make_registry(schema=Serves("3"))
    with pytest.raises(DBAPIError), registry.writing(Tenant("acme", acme.url, revision)) as session:
        session.execute(statement)


def test_a_statement_that_failed_just_before_a_migration_ended_raises_behind_schema(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    registry = make_registry(schema=Serves("3"))  # at the time of the check
    with pytest.raises(BehindSchema, match="at schema 2"), registry.writing(Tenant("acme", acme.url, "2")) as session:
        session.execute(MISSING)


def test_an_unrelated_error_at_an_older_schema_is_unchanged(make_registry: MakeRegistry, acme: Tenant) -> None:
    schema = Serves("2")
    with pytest.raises(DBAPIError), make_registry(schema=schema).writing(acme) as session:
        session.execute(text("SELECT 1/0"))
    assert schema.reads == 0
