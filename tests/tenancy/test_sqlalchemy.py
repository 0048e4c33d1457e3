"""SQLAlchemy internals that this package depends on. These tests fail if an upgrade changes them."""

import sqlalchemy
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool
from sqlalchemy.util import LRUCache

from kataven.tenancy.directory import Tenant
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.serving.engines import Engines
from kataven.tenancy.serving.pool import ConnectionBudget
from kataven.tenancy.serving.pool_limits import PoolLimits
from tests.tenancy.conftest import MakeRegistry
from tests.tenancy.models import Note
from tests.tenancy.proxy import CountingProxy

CONNECT = 1  # trust and peer authentication need one round trip


def test_the_minor_version_is_the_reviewed_one() -> None:
    assert sqlalchemy.__version__.startswith("2.1."), (
        "review the comments in dialect.py, pool.py and session.py, then pin"
    )


def test_overridden_private_names_still_exist() -> None:
    for name in ("_do_get", "_do_return_conn", "_create_connection"):
        assert callable(getattr(Pool, name))
    assert callable(Session._merge)
    assert callable(Session._bulk_save_mappings)
    assert isinstance(LRUCache(1), dict) is False
    assert LRUCache(1).get("absent") is None


def test_engines_of_one_server_share_dialect_and_compiled_statements(acme: Tenant, globex: Tenant) -> None:
    engines = Engines(PoolLimits(), ConnectionSettings(), ConnectionBudget(4, None))
    first, second = engines.pin(acme), engines.pin(globex)
    assert first.engine.dialect is second.engine.dialect
    cache = first.engine.get_execution_options()["compiled_cache"]
    assert cache is second.engine.get_execution_options()["compiled_cache"]
    with first.engine.connect() as connection:
        connection.execute(select(Note))
    compiled = len(cache)
    with second.engine.connect() as connection:
        connection.execute(select(Note))
    assert compiled == len(cache) > 0
    engines.close()


def test_no_round_trip_precedes_the_first_query_after_the_server_was_probed(
    make_registry: MakeRegistry, acme: Tenant, globex: Tenant
) -> None:
    with CountingProxy(acme.url) as proxy:
        registry = make_registry()

        def read(tenant: Tenant) -> int:
            before = proxy.round_trips
            through = Tenant(tenant.account, proxy.url.set(database=tenant.url.database))
            with registry.reading(through) as session:
                session.execute(text("SELECT 1"))
            return proxy.round_trips - before

        assert read(acme) > CONNECT + 1, "the server is probed once"
        assert read(globex) == CONNECT + 1, "the connection and the query"
        assert read(globex) == 1, "AUTOCOMMIT, no BEGIN, no ping, no ROLLBACK"
        registry.close()


def test_a_default_engine_needs_more_round_trips(acme: Tenant, globex: Tenant) -> None:
    with CountingProxy(acme.url) as proxy:
        for tenant in (acme, globex):
            before = proxy.round_trips
            engine = create_engine(proxy.url.set(database=tenant.url.database))
            with Session(engine) as session:
                session.execute(text("SELECT 1"))
            engine.dispose()
        assert proxy.round_trips - before > CONNECT + 1


def test_a_transaction_adds_only_begin_and_commit(make_registry: MakeRegistry, acme: Tenant) -> None:
    with CountingProxy(acme.url) as proxy:
        registry = make_registry()
        through = Tenant("acme", proxy.url)
        with registry.writing(through) as session:
            session.execute(text("SELECT 1"))
        before = proxy.round_trips
        with registry.writing(through) as session:
            session.execute(text("SELECT 1"))
        assert proxy.round_trips - before == 3
        with registry.reading(through) as session:
            assert session.connection().connection.driver_connection.autocommit
        registry.close()
