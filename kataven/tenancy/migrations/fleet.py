"""Migrates many accounts, in a way that an operator can trust and interrupt.

A run reads where each account is; renders the SQL of the steps once; proves it on a copy of one account; applies it to
a few accounts first, then to the rest from threads; and believes of each account only what its database says
afterwards. Every account's truth is in its own database, so a run that was killed is resumed by running it again, and a
run with nothing to do is a read.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kataven.tenancy.directory import Tenant
from kataven.tenancy.errors import RunInProgress
from kataven.tenancy.migrations.alembic_process import AlembicProcesses
from kataven.tenancy.migrations.apply import Applier
from kataven.tenancy.migrations.report import MigrationReport, Record, recording
from kataven.tenancy.migrations.run import MigrationRunner, RunOptions
from kataven.tenancy.migrations.steps import render, script
from kataven.tenancy.migrations.survey import AccountState, survey
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer

__all__ = ["Fleet", "MIGRATION_SETTINGS", "RunOptions"]

MIGRATION_SETTINGS = ConnectionSettings(
    application_name="kataven migrations",
    connect_timeout_seconds=5,
    statement_timeout_seconds=600.0,
    lock_timeout_seconds=3.0,  # whoever waits for a table's lock makes everybody behind it wait too
    idle_in_transaction_timeout_seconds=600.0,
)


class Fleet:
    """The accounts of one schema. `coordinator` is where the lock against two runs at once is held."""

    def __init__(
        self, schema: Schema, coordinator: DatabaseServer, settings: ConnectionSettings = MIGRATION_SETTINGS
    ) -> None:
        self._schema = schema
        self._coordinator = coordinator
        self._settings = settings

    def upgrade(
        self, tenants: Sequence[Tenant], options: RunOptions | None = None, progress: Record = lambda _: None
    ) -> MigrationReport:
        """Bring `tenants` to the target (default: the head). `progress` is told of each account as it is done.

        What goes wrong with an account is in its row. Raises RunInProgress if another run is under way, MigrationError
        if the steps can't be rendered or do not stand the proof; then no account has been touched.
        """
        options = options or RunOptions()
        target = options.target or self._schema.head
        self._schema.path(None, target)
        with (
            self._run_lock(),
            recording(options.report_file, target, len(tenants)) as record,
            AlembicProcesses(self._schema, self._settings, options.jobs) as processes,
        ):
            applier = Applier(self._schema, self._settings, processes)
            return MigrationRunner(applier, target, options, (record, progress)).over(tenants)

    def status(
        self, tenants: Sequence[Tenant], jobs: int = 8, progress: Callable[[AccountState], None] = lambda _: None
    ) -> list[AccountState]:
        """Revision and drift of each of `tenants`, in their order. Only reads."""
        return survey(self._schema, tenants, self._settings, jobs, progress)

    def sql(self, start: str | None, target: str | None = None) -> str:
        """The script that takes a database from `start` to `target`, for people to read. Raises MigrationError."""
        steps = render(self._schema, start, target or self._schema.head)
        return script(steps, self._settings.lock_timeout_seconds)

    @contextmanager
    def _run_lock(self) -> Iterator[None]:
        name = f"tenancy run {self._schema.branch}"
        with self._coordinator.maintenance() as maintenance:
            if not maintenance.try_lock(name):
                raise RunInProgress("another run over the accounts is under way")
            yield  # closing the connection lets go of the lock
