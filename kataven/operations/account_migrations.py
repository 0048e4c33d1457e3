"""Migrate the databases of accounts to the schema of this release, and read the revision of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from kataven.operations import migration_runs
from kataven.operations.operator import Operator
from kataven.revocation.target import RevocationTarget
from kataven.system import accounts, operators
from kataven.system.database import SystemDatabase
from kataven.system.directory import record_of, record_query
from kataven.system.models import Account, AccountStatus
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.directory import Tenant
from kataven.tenancy.migrations.fleet import MIGRATION_SETTINGS, Fleet, RunOptions
from kataven.tenancy.migrations.report import AccountResult, MigrationOutcome, MigrationReport
from kataven.tenancy.migrations.survey import AccountState
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.schema import Schema
from kataven.tenancy.server import DatabaseServer

Progress = Callable[[AccountResult], None]


def tenants(database: SystemDatabase, names: Sequence[str] = ()) -> list[Tenant]:
    """The named accounts, or all; without accounts that have no database or are being deleted. Their URLs lead past
    poolers. Raises NoSuchAccount."""
    with database.reading() as session:
        for name in names:
            accounts.read(session, name)
        migratable = Account.schema_revision.is_not(None), Account.status != AccountStatus.DELETING
        query = record_query().where(*migratable).order_by(Account.account_id)
        rows = session.execute(query.where(Account.account_id.in_(names)) if names else query).all()
    return [record_of(database, row).tenant.past_pooler() for row in rows]


def fleet(database: SystemDatabase, settings: ConnectionSettings = MIGRATION_SETTINGS) -> Fleet:
    """All accounts' databases. The lock that prevents two runs at once is held on the system database's server."""
    return Fleet(ACCOUNT_SCHEMA, DatabaseServer(database.direct_url), settings)


def sql(database: SystemDatabase, schema: Schema, start: str | None) -> str:
    """The SQL that migrates a database from `start` to the head, for review. Raises MigrationError."""
    return Fleet(schema, DatabaseServer(database.direct_url)).sql(start)


def status(
    database: SystemDatabase, chosen: Sequence[Tenant], jobs: int, settings: ConnectionSettings = MIGRATION_SETTINGS
) -> list[AccountState]:
    """Read revision and drift from each account's database. Changes nothing."""
    return fleet(database, settings).status(chosen, jobs)


def run(
    operator: Operator, run_id: UUID, *, report_file: Path | None = None, progress: Progress = lambda _: None
) -> MigrationReport:
    """Execute a requested migration run. Every process can read its progress from the system database.

    After each account, workers are notified to read its revision again. Raises the errors of `upgrade`, NoSuchRun,
    RunUnderWay or SystemSchemaBehind.
    """
    with migration_runs.executing(operator.system, run_id) as recorder:
        chosen = tenants(operator.system, recorder.request.accounts)
        recorder.set_total(len(chosen))
        options = replace(recorder.request.run_options, report_file=report_file)

        def report(result: AccountResult) -> None:
            recorder.add(result)
            operator.services.revocation.announce(RevocationTarget(result.account))
            progress(result)

        return upgrade(operator.system, chosen, options, actor=recorder.actor, progress=report)


def upgrade(
    database: SystemDatabase,
    chosen: Sequence[Tenant],
    options: RunOptions,
    *,
    actor: str,
    progress: Progress = lambda _: None,
) -> MigrationReport:
    """Migrate the chosen accounts, and record the revision of each in the system database.

    The recorded revision is a cache that saves the registry a query; the account's database is authoritative. Raises
    RunInProgress or MigrationError; then no account has been changed.
    """

    def report(result: AccountResult) -> None:
        if result.outcome in (MigrationOutcome.MIGRATED, MigrationOutcome.CURRENT):
            _record_revision(database, result, actor)
        progress(result)

    return fleet(database).upgrade(chosen, options, report)


def _record_revision(database: SystemDatabase, result: AccountResult, actor: str) -> None:
    with database.reading() as session:
        if accounts.read(session, result.account).schema_revision == result.end:
            return
    with database.writing() as session:
        accounts.read(session, result.account, lock=True).schema_revision = result.end
        operators.record(session, actor, "account.migrated", result.account, {"from": result.start, "to": result.end})
