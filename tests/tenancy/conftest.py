"""Databases to break: `tenants` for tests that leave them as they were, `make_tenant` for those that don't."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine, make_url, text

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.tenancy.directory import Tenant
from kataven.tenancy.serving.registry import EngineRegistry
from kataven.tenancy.testing import assert_no_leaks, plant_canary
from tests.tenancy.models import Base

MakeTenant = Callable[[str], Tenant]
MakeRegistry = Callable[..., EngineRegistry]


@contextmanager
def scratch_server() -> Iterator[EmbeddedPostgres]:
    """A server of one's own, in a folder that whoever runs PostgreSQL can reach; removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-", dir=_roomy_memory()))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    with EmbeddedPostgres(folder, fsync=False) as server:
        yield server
    shutil.rmtree(folder)


def _roomy_memory() -> str | None:
    """Where files stay in memory, if there is plenty: hundreds of databases are made here, which a disk feels."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder with an unpredictable name is made in it
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 8 << 30 else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A server apart from the other tests': these list, drop and repair all of its databases."""
    with scratch_server() as server:
        yield server


@pytest.fixture(scope="session")
def other_server() -> Iterator[EmbeddedPostgres]:
    """A second server, to stop, to start, or to be elsewhere. Its tests leave it without databases."""
    with scratch_server() as server:
        yield server


@contextmanager
def connected(postgres: EmbeddedPostgres, database: str = "postgres") -> Iterator[Connection]:
    """A connection of the test's own, beside the code under test."""
    engine = create_engine(postgres.url(database), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def create_tenant(postgres: EmbeddedPostgres, account: str) -> Tenant:
    """A database with the tests' tables and a canary that says whose it is."""
    with connected(postgres) as connection:
        connection.execute(text(f'CREATE DATABASE "{account}" STRATEGY file_copy'))
    with connected(postgres, account) as connection:
        Base.metadata.create_all(connection)
        plant_canary(connection, account)
    return Tenant(account, make_url(postgres.url(account)))


def drop_database(postgres: EmbeddedPostgres, database: str) -> None:
    with connected(postgres) as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'))


@pytest.fixture(scope="session")
def tenants(postgres: EmbeddedPostgres) -> list[Tenant]:
    """acme, globex and six more, for tests that leave them as they found them."""
    names = ["acme", "globex", "hooli", "initech", "stark", "umbrella", "wayne", "wonka"]
    return [create_tenant(postgres, name) for name in names]


@pytest.fixture
def acme(tenants: list[Tenant], postgres: EmbeddedPostgres) -> Iterator[Tenant]:
    yield tenants[0]
    _empty(postgres, "acme")


@pytest.fixture
def globex(tenants: list[Tenant], postgres: EmbeddedPostgres) -> Iterator[Tenant]:
    yield tenants[1]
    _empty(postgres, "globex")


def _empty(postgres: EmbeddedPostgres, database: str) -> None:
    with connected(postgres, database) as connection:
        connection.execute(text("TRUNCATE notes, tags RESTART IDENTITY"))


@pytest.fixture
def make_tenant(postgres: EmbeddedPostgres) -> Iterator[MakeTenant]:
    """Makes a database for this test alone."""
    with ExitStack() as stack:

        def make(account: str) -> Tenant:
            stack.callback(drop_database, postgres, account)
            return create_tenant(postgres, account)

        yield make


@pytest.fixture
def make_registry() -> Iterator[MakeRegistry]:
    """Makes registries, and checks at the end of the test that nothing of theirs is left open."""
    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> EngineRegistry:
            registry = EngineRegistry(*args, **options)
            stack.callback(assert_no_leaks, registry)
            stack.callback(registry.close)
            return registry

        yield make
