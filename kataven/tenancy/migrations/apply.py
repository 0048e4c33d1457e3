"""Applies migration steps to one database, as SQL or with Alembic."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, NullPool

from kataven.tenancy.dialect import EngineFactory
from kataven.tenancy.directory import Tenant
from kataven.tenancy.migrations.alembic_process import AlembicProcesses
from kataven.tenancy.migrations.steps import Step, replay
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.schema import Schema


class Applier:
    """Thread-safe if each thread uses another database."""

    def __init__(self, schema: Schema, settings: ConnectionSettings, processes: AlembicProcesses) -> None:
        self.schema = schema
        self._servers = EngineFactory(settings)
        self._processes = processes

    @contextmanager
    def connect(self, tenant: Tenant) -> Iterator[Connection]:
        """A connection in AUTOCOMMIT to the tenant's database, closed at the end of the block."""
        engine = self._servers.create_engine(tenant.url, poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

    def apply(self, tenant: Tenant, connection: Connection, steps: Sequence[Step]) -> None:
        """Apply `steps` in their order, each in its own transaction. Raises the error of the first step that fails."""
        for step in steps:
            if step.sql is None:
                self._processes.run(tenant, step)
            else:
                replay(connection, step)
