"""Databases for tests: `tenants` for tests that leave them unchanged, `make_tenant` for tests that change them."""

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
    """A separate server, in a folder that the PostgreSQL user can access; removed at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="kataven-test-", dir=_memory_folder()))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    with EmbeddedPostgres(folder, fsync=False) as server:
        yield server
    shutil.rmtree(folder)


def _memory_folder() -> str | None:
    """A folder in memory, if enough is free: these tests create hundreds of databases, which is slow on a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - only a folder with an unpredictable name is created in it
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 8 << 30 else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A server that other test folders don't use: these tests list, drop and repair all of its databases."""
    with scratch_server() as server:
        yield server


@pytest.fixture(scope="session")
def other_server() -> Iterator[EmbeddedPostgres]:
    """A second server, which tests can stop and start. Tests leave it without databases."""
    with scratch_server() as server:
        yield server


@contextmanager
def connected(postgres: EmbeddedPostgres, database: str = "postgres") -> Iterator[Connection]:
    """A connection for the test itself."""
    engine = create_engine(postgres.url(database), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def create_tenant(postgres: EmbeddedPostgres, account: str) -> Tenant:
    """A database with the tests' tables and a canary with its account's name."""
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
    """acme, globex and six more, for tests that leave them unchanged."""
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
    """Creates databases that are dropped after the test."""
    with ExitStack() as stack:

        def make(account: str) -> Tenant:
            stack.callback(drop_database, postgres, account)
            return create_tenant(postgres, account)

        yield make


@pytest.fixture
def make_registry() -> Iterator[MakeRegistry]:
    """Creates registries, and checks after the test that they have no open connections."""
    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> EngineRegistry:
            registry = EngineRegistry(*args, **options)
            stack.callback(assert_no_leaks, registry)
            stack.callback(registry.close)
            return registry

        yield make
