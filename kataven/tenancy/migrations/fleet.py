"""Migrates many accounts. A run can be interrupted and resumed.

A run reads the revision of each account, renders the SQL of the steps once, tests it on a copy of one account, applies
it to a few accounts first and then to the others from threads, and verifies each account in its database afterwards.
Each account's database is authoritative for its revision. To resume a run that was killed, run it again; a run without
pending steps only reads.
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
    lock_timeout_seconds=3.0,  # a statement that waits for a table's lock blocks all statements behind it
    idle_in_transaction_timeout_seconds=600.0,
)


class Fleet:
    """The accounts of one schema. The lock that prevents concurrent runs is held on `coordinator`."""

    def __init__(
        self, schema: Schema, coordinator: DatabaseServer, settings: ConnectionSettings = MIGRATION_SETTINGS
    ) -> None:
        self._schema = schema
        self._coordinator = coordinator
        self._settings = settings

    def upgrade(
        self, tenants: Sequence[Tenant], options: RunOptions | None = None, progress: Record = lambda _: None
    ) -> MigrationReport:
        """Upgrade `tenants` to the target (default: the head). `progress` is called with each account's result.

        An account's error is part of its result. Raises RunInProgress during another run, MigrationError if the steps
        can't be rendered or fail on the copy; then no account was changed.
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
        """A readable SQL script that upgrades a database from `start` to `target`. Raises MigrationError."""
        steps = render(self._schema, start, target or self._schema.head)
        return script(steps, self._settings.lock_timeout_seconds)

    @contextmanager
    def _run_lock(self) -> Iterator[None]:
        name = f"tenancy run {self._schema.branch}"
        with self._coordinator.maintenance() as maintenance:
            if not maintenance.try_lock(name):
                raise RunInProgress("another migration run is in progress")
            yield  # closing the connection releases the lock
