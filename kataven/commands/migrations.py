"""`kataven migrations …`: migrate databases to the schema of this release, and show the revision of each."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from kataven.commands.context import ACTOR, current
from kataven.commands.options import WholeNumber
from kataven.commands.output import as_json, console, print_fields, print_rows, report_errors

if TYPE_CHECKING:
    from kataven.tenancy.migrations.fleet import RunOptions
    from kataven.tenancy.migrations.report import AccountResult, MigrationReport

group = click.Group("migrations", help="Migrate the system database and the databases of accounts.")

accounts_option = click.option("--account", "accounts", multiple=True, help="Account to process; can be repeated.")
jobs_option = click.option(
    "--jobs", type=WholeNumber(most=64), default=8, show_default=True, help="Accounts in parallel."
)


@group.command("upgrade")
@click.option("--system", is_flag=True, help="Upgrade the system database; create it if it is missing.")
@accounts_option
@click.option("--all", "all_accounts", is_flag=True, help="Upgrade all accounts.")
@jobs_option
@click.option(
    "--canaries",
    type=WholeNumber(0),
    default=1,
    show_default=True,
    help="Accounts to migrate first.",
)
@click.option(
    "--max-failures",
    type=WholeNumber(),
    default=5,
    show_default=True,
    help="Stop after this many failures.",
)
@click.option("--dry-run", is_flag=True, help="Render and test the steps without changing an account.")
@click.option(
    "--sql",
    "only_sql",
    is_flag=True,
    help="Print the SQL from the first revision; change nothing.",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write one JSON line per account.")
@as_json
@report_errors
def upgrade(
    system: bool,
    accounts: tuple[str, ...],
    all_accounts: bool,
    jobs: int,
    canaries: int,
    max_failures: int,
    dry_run: bool,
    only_sql: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Upgrade the system database, the given accounts, or all accounts to the schema of this release.

    The SQL of each step is rendered once, tested on a copy of one account, and replayed on the others. Afterwards the
    revision of each database is read. If a run was interrupted, run the command again to resume it. The exit status is
    1 if an account is not at the newest revision.

    With --sql and --account, the SQL starts at the current revision of the account's database.
    """
    from kataven.operations import account_creation, migration_runs
    from kataven.system.schema import SYSTEM_SCHEMA
    from kataven.tenancy.migrations.fleet import RunOptions

    database = current().operator.system
    if only_sql:
        _print_sql(system, accounts, all_accounts=all_accounts, jobs=jobs)
        return
    if not (system or accounts or all_accounts):
        raise click.UsageError("Nothing to upgrade. Pass --system, --account NAME or --all.")
    if system:
        account_creation.prepare_system(database.direct_url.render_as_string(hide_password=False))
        click.echo(f"system database is at {SYSTEM_SCHEMA.head}", err=True)
    if accounts or all_accounts:
        options = RunOptions(
            jobs=jobs, canaries=canaries, max_failures=max_failures, dry_run=dry_run, report_file=report
        )
        done = _upgrade(accounts, options)
        print_rows([_result(result) for result in done.results], as_json=as_json, empty="No accounts yet.")
        click.echo(_summary(done), err=True)
        if why := migration_runs.early_end(
            {str(outcome): count for outcome, count in done.counts.items()}, max_failures
        ):
            click.echo(f"{why} The remaining accounts were not changed.", err=True)
        if not done.succeeded:
            sys.exit(1)


@group.command("carry-out", hidden=True)
@click.argument("run_id", type=click.UUID)
@report_errors
def carry_out(run_id: UUID) -> None:
    """Execute the migration run RUN_ID. Only the console should start this command."""
    from kataven.operations import account_migrations

    account_migrations.run(current().operator, run_id)


@group.command("revision")
@click.argument("message")
@click.option("--system", is_flag=True, help="Draft for the system database instead of the accounts' databases.")
@as_json
@report_errors
def revision(message: str, system: bool, as_json: bool) -> None:
    """Draft the next schema revision from the models, for developers. MESSAGE names it, as in "notes about agents".

    The models are compared with a scratch database on the server of the system database. Review the draft before you
    use it: the comparison doesn't detect renamed columns or changed CHECK constraints.
    """
    from kataven.system.schema import ACCOUNT_SCHEMA, SYSTEM_SCHEMA
    from kataven.tenancy.migrations.draft import draft_revision, is_empty
    from kataven.tenancy.server import DatabaseServer

    if not any(character.isalnum() for character in message):
        raise click.BadParameter("describe the change in a few words.", param_hint="MESSAGE")
    schema = SYSTEM_SCHEMA if system else ACCOUNT_SCHEMA
    written = draft_revision(schema, DatabaseServer(current().operator.system.direct_url), message.strip())
    if as_json:
        print_fields({"file": written, "empty": is_empty(written)}, as_json=True)
    else:
        click.echo(written)
    if is_empty(written):
        click.echo("The models match the last revision. Fill in the draft by hand, or delete it.", err=True)


@group.command("status")
@accounts_option
@jobs_option
@as_json
@report_errors
def status(accounts: tuple[str, ...], jobs: int, as_json: bool) -> None:
    """Show the schema revision of each account, and whether its schema has drifted.

    The exit status is 1 if an account has drifted, or if this release can't serve its revision.
    """
    from kataven.operations import account_migrations

    database = current().operator.system
    states = account_migrations.status(database, account_migrations.tenants(database, accounts), jobs)
    print_rows([asdict(state) for state in states], as_json=as_json, empty="No accounts yet.")
    if not all(state.served and not state.drifted for state in states):
        sys.exit(1)


def _print_sql(system: bool, accounts: tuple[str, ...], *, all_accounts: bool, jobs: int) -> None:
    """The system database's SQL is printed first, because it is upgraded first. Default: the accounts' SQL."""
    from kataven.operations import account_migrations
    from kataven.system.schema import ACCOUNT_SCHEMA, SYSTEM_SCHEMA

    database = current().operator.system
    if system:
        click.echo(account_migrations.sql(database, SYSTEM_SCHEMA, None))
    if all_accounts or not (system or accounts):
        click.echo(account_migrations.sql(database, ACCOUNT_SCHEMA, None))
        return
    by_start: dict[str | None, list[str]] = {}
    for state in (
        account_migrations.status(database, account_migrations.tenants(database, accounts), jobs) if accounts else []
    ):
        if state.error:
            raise click.ClickException(f"{state.account}: {state.error}")
        by_start.setdefault(state.revision, []).append(state.account)
    for start, names in by_start.items():
        listed = ", ".join(names)
        if start == ACCOUNT_SCHEMA.head:
            click.echo(f"-- {listed}: at {start}, nothing to do\n")
        else:
            click.echo(f"-- {listed}: {start or 'no revision'} to {ACCOUNT_SCHEMA.head}\n")
            click.echo(account_migrations.sql(database, ACCOUNT_SCHEMA, start))


def _upgrade(accounts: tuple[str, ...], options: RunOptions) -> MigrationReport:
    from rich.progress import Progress

    from kataven.operations import account_migrations, migration_runs
    from kataven.system.schema import ACCOUNT_SCHEMA

    operator = current().operator
    database = operator.system
    count = len(account_migrations.tenants(database, accounts))
    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"to {ACCOUNT_SCHEMA.head}", total=count)

        def advance(_: AccountResult) -> None:
            bar.advance(task)

        if options.dry_run:
            return account_migrations.upgrade(
                database, account_migrations.tenants(database, accounts), options, actor=ACTOR, progress=advance
            )
        wanted = migration_runs.RunRequest(accounts, options.jobs, options.canaries, options.max_failures)
        run_id = migration_runs.request(database, ACTOR, wanted)
        return account_migrations.run(operator, run_id, report_file=options.report_file, progress=advance)


def _result(result: AccountResult) -> dict[str, Any]:
    return {
        "account": result.account,
        "outcome": str(result.outcome),
        "from": result.start,
        "to": result.end,
        "seconds": round(result.seconds, 3),
        "drifted": result.drifted,
        "error": result.error or None,
    }


def _summary(report: MigrationReport) -> str:
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(report.counts.items())) or "no accounts"
    return f"{counted} in {report.seconds:.1f} s"
