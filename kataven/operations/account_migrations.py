"""Bringing every account's database to this code's schema, and seeing where each one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from kataven.operations import migration_runs
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
    """Every account that has a database and is to keep it, or those of them that are named. Raises NoSuchAccount."""
    with database.reading() as session:
        for name in names:
            accounts.read(session, name)
        stays = Account.schema_revision.is_not(None), Account.status != AccountStatus.DELETING
        query = record_query().where(*stays).order_by(Account.account_id)
        rows = session.execute(query.where(Account.account_id.in_(names)) if names else query).all()
    return [record_of(database.url, row).tenant for row in rows]


def fleet(database: SystemDatabase, settings: ConnectionSettings = MIGRATION_SETTINGS) -> Fleet:
    """All accounts' databases; the lock against two runs at once is held beside the system database."""
    return Fleet(ACCOUNT_SCHEMA, DatabaseServer(database.url), settings)


def sql(database: SystemDatabase, schema: Schema, start: str | None) -> str:
    """What takes a database from `start` to the head, for people to read. Raises MigrationError."""
    return Fleet(schema, DatabaseServer(database.url)).sql(start)


def status(
    database: SystemDatabase, chosen: Sequence[Tenant], jobs: int, settings: ConnectionSettings = MIGRATION_SETTINGS
) -> list[AccountState]:
    """What each account's own database says of its schema. Only reads."""
    return fleet(database, settings).status(chosen, jobs)


def carry_out(
    database: SystemDatabase, run_id: UUID, *, report_file: Path | None = None, progress: Progress = lambda _: None
) -> MigrationReport:
    """Carry out a run that was asked for with `runs.ask`; everybody can see how far it is.

    Raises as `upgrade` does, and RunUnderWay.
    """
    with migration_runs.carried_out(database, run_id) as recorder:
        chosen = tenants(database, recorder.choice.accounts)
        recorder.begin(len(chosen))
        options = replace(recorder.choice.run_options, report_file=report_file)

        def told(result: AccountResult) -> None:
            recorder.note(result)
            progress(result)

        return upgrade(database, chosen, options, actor=recorder.actor, progress=told)


def upgrade(
    database: SystemDatabase,
    chosen: Sequence[Tenant],
    options: RunOptions,
    *,
    actor: str,
    progress: Progress = lambda _: None,
) -> MigrationReport:
    """Migrate the chosen accounts, and write down in the system database where each of them is now.

    What is written down only saves the registry a question: what counts is what each account's database says. Raises
    RunInProgress or MigrationError, and then no account has been touched.
    """

    def told(result: AccountResult) -> None:
        if result.outcome in (MigrationOutcome.MIGRATED, MigrationOutcome.CURRENT):
            _write_down(database, result, actor)
        progress(result)

    return fleet(database).upgrade(chosen, options, told)


def _write_down(database: SystemDatabase, result: AccountResult, actor: str) -> None:
    with database.reading() as session:
        if accounts.read(session, result.account).schema_revision == result.end:
            return
    with database.writing() as session:
        accounts.read(session, result.account, lock=True).schema_revision = result.end
        operators.record(session, actor, "account.migrated", result.account, {"from": result.start, "to": result.end})
