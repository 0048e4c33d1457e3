"""Rows without a session: the same results, the same errors and the same breaker as in a session."""

import pytest
from sqlalchemy import bindparam, column, func, literal_column, make_url, select, text
from sqlalchemy.exc import DBAPIError

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import BehindSchema, NoTenant, RegistryClosed, SchemaMismatch, TenantUnavailable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.pool_limits import PoolLimits
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.serving.rows import RowQuery
from tests.support.clock import Clock
from tests.tenancy.conftest import MakeRegistry, MakeTenant, create_tenant, drop_database
from tests.tenancy.models import Note
from tests.tenancy.test_faults import Serves, backend_of, terminate

BACKEND = RowQuery(select(func.pg_backend_pid()))
OWNER = RowQuery(select(literal_column("account")).select_from(text("tenancy_canary.owner")))
MISSING = RowQuery(select(column("anything")).select_from(text("nothing")))


def backend(registry: EngineRegistry, tenant: Tenant) -> int:
    [[pid]] = registry.rows(tenant, BACKEND, {})
    return int(pid)


def test_rows_are_those_of_a_session(make_registry: MakeRegistry, make_tenant: MakeTenant) -> None:
    registry, tenant = make_registry(), make_tenant("listed")
    with registry.writing(tenant) as session:
        session.add_all(Note(id=number, text=f"100 % of {number}") for number in range(5))
    statement = select(Note.id, Note.text).where(Note.id > bindparam("after")).order_by(Note.id)
    with registry.reading(tenant) as session:
        expected = [tuple(row) for row in session.execute(statement, {"after": 1})]
    query = RowQuery(statement)
    assert query.columns == ("id", "text")
    assert registry.rows(tenant, query, {"after": 1}) == expected
    assert registry.rows(tenant, query, {"after": 3}) == expected[2:]


def test_rows_come_from_the_tenants_own_database(make_registry: MakeRegistry, acme: Tenant, globex: Tenant) -> None:
    registry = make_registry()
    assert [registry.rows(tenant, OWNER, {}) for tenant in (acme, globex, acme)] == [
        [("acme",)],
        [("globex",)],
        [("acme",)],
    ]


def test_rows_and_sessions_share_connections(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(PoolLimits(connections_per_account=1))
    assert backend(registry, acme) == backend_of(registry, acme) == backend(registry, acme)
    assert registry.metrics().connections_in_use == 0


def test_rows_need_a_tenant_and_an_open_registry(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry()
    with pytest.raises(NoTenant):
        registry.rows("acme", BACKEND, {})  # type: ignore[arg-type]
    registry.close()
    with pytest.raises(RegistryClosed):
        registry.rows(acme, BACKEND, {})


def test_a_dropped_database_opens_the_breaker(
    make_registry: MakeRegistry, make_tenant: MakeTenant, postgres: EmbeddedPostgres
) -> None:
    clock = Clock()
    registry = make_registry(PoolLimits(breaker_failures=2, breaker_pause=2), clock=clock)
    tenant = make_tenant("dropped")
    backend(registry, tenant)
    drop_database(postgres, "dropped")
    reasons = []
    for _ in range(3):
        with pytest.raises(TenantUnavailable) as rejected:
            backend(registry, tenant)
        reasons.append(rejected.value.reason)
    assert reasons == ["no connection"] * 2 + ["its circuit breaker is open"]
    create_tenant(postgres, "dropped")
    clock.advance(3)
    assert backend(registry, tenant)
    assert registry.metrics().open_breakers == ()


def test_a_terminated_idle_connection_is_replaced_without_a_failed_request(
    make_registry: MakeRegistry, acme: Tenant, postgres: EmbeddedPostgres
) -> None:
    registry = make_registry()
    first = backend(registry, acme)
    terminate(postgres, first)
    assert backend(registry, acme) != first


def test_a_connection_that_is_lost_during_a_query_is_not_used_again(make_registry: MakeRegistry, acme: Tenant) -> None:
    registry = make_registry(PoolLimits(connections_per_account=1))
    suicide = RowQuery(select(func.pg_terminate_backend(func.pg_backend_pid())))
    with pytest.raises(TenantUnavailable, match="connection was lost"):
        registry.rows(acme, suicide, {})
    assert backend(registry, acme)
    assert registry.metrics().connections == 1


def test_a_stopped_server_is_used_again_once_it_runs(
    make_registry: MakeRegistry, other_server: EmbeddedPostgres
) -> None:
    clock = Clock()
    registry = make_registry(clock=clock)
    tenant = create_tenant(other_server, "listed")
    backend(registry, tenant)
    other_server.stop()
    for _ in range(3):
        with pytest.raises(TenantUnavailable):
            backend(registry, tenant)
    other_server.start()
    clock.advance(60)
    tenant = Tenant("listed", make_url(other_server.url("listed")))
    assert backend(registry, tenant)
    drop_database(other_server, "listed")


def test_a_statement_timeout_does_not_count_toward_the_breaker(make_registry: MakeRegistry, acme: Tenant) -> None:
    settings = ConnectionSettings(statement_timeout_seconds=0.02)
    registry = make_registry(PoolLimits(breaker_failures=1), settings)
    with pytest.raises(TenantUnavailable, match="a statement took too long"):
        registry.rows(acme, RowQuery(select(func.pg_sleep(30))), {})
    assert registry.metrics().open_breakers == ()
    assert backend(registry, acme)


def test_an_error_of_the_query_is_raised_without_values_and_does_not_open_the_breaker(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    registry = make_registry(PoolLimits(breaker_failures=1))
    query = RowQuery(select(func.to_date(bindparam("given"), "secret of a customer")))
    with pytest.raises(DBAPIError) as raised:
        registry.rows(acme, query, {"given": "another secret"})
    assert "secret" not in f"{raised.value} {raised.value.orig} {raised.value.__cause__}"
    assert registry.metrics().open_breakers == ()
    assert backend(registry, acme)


def test_an_unserved_schema_is_rejected(make_registry: MakeRegistry, acme: Tenant) -> None:
    with pytest.raises(SchemaMismatch):
        make_registry(schema=Serves("1")).rows(Tenant("acme", acme.url, "1"), BACKEND, {})


def test_the_database_is_authoritative_for_an_unserved_directory_revision(
    make_registry: MakeRegistry, acme: Tenant
) -> None:
    schema = Serves("2")
    registry = make_registry(schema=schema)
    for revision, reads in (("2", 0), (None, 0), ("1", 1)):
        assert backend(registry, Tenant("acme", acme.url, revision))
        assert schema.reads == reads


@pytest.mark.parametrize(("have", "raised"), [(None, SchemaMismatch), ("2", BehindSchema), ("3", DBAPIError)])
def test_a_missing_table_is_judged_by_the_schema_of_the_database(
    make_registry: MakeRegistry, acme: Tenant, have: str | None, raised: type[Exception]
) -> None:
    registry = make_registry(PoolLimits(connections_per_account=1), schema=Serves(have))
    with pytest.raises(raised):
        registry.rows(acme, MISSING, {})
    assert registry.metrics().connections_in_use == 0


def test_the_first_row_has_its_columns_as_attributes(make_registry: MakeRegistry, acme: Tenant) -> None:
    query = RowQuery(text("SELECT 1, n FROM unnest(:numbers) AS n ORDER BY n DESC").columns(column("one"), column("n")))
    first = query.first(make_registry().rows(acme, query, {"numbers": [2, 3]}))
    assert (first.one, first.n) == (1, 3)
    assert query.first([]) is None


def test_a_parameter_with_a_variable_number_of_values_is_rejected() -> None:
    with pytest.raises(ValueError, match="variable number"):
        RowQuery(select(column("a")).where(column("a").in_([1, 2])))
