"""`kataven accounts dump|delete|load|restore|shell`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kataven.commands.accounts import group
from kataven.commands.context import ACTOR, current
from kataven.commands.output import as_json, print_fields, report_errors

if TYPE_CHECKING:
    from kataven.operations.account_restore import RestoredAccount
    from kataven.tenancy.databases.dumps import Dump

folder_option = click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Folder for the dump. Default: KATAVEN_DUMP_DIR."
)
from_option = click.option(
    "--from",
    "dump",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Dump file, as printed by `dump` or `delete`.",
)


@group.command("dump")
@click.argument("account")
@folder_option
@as_json
@report_errors
def dump_account(account: str, folder: Path | None, as_json: bool) -> None:
    """Dump ACCOUNT to a file with mode 0600. Requests are served during the dump."""
    from kataven.operations import account_dumps

    taken = account_dumps.dump(current().operator, current().dump_store(folder), account)
    print_fields(_dump_fields(taken), as_json=as_json)


@group.command("delete")
@click.argument("account")
@folder_option
@click.option("--without-dump", is_flag=True, help="Skip the final dump. The data can't be recovered.")
@click.option("--yes-delete", metavar="ACCOUNT", help="Confirm with the account's name, without a prompt.")
@as_json
@report_errors
def delete(account: str, folder: Path | None, without_dump: bool, yes_delete: str | None, as_json: bool) -> None:
    """Delete ACCOUNT: revoke all its credentials, take a final dump, and drop its database.

    If the command is interrupted, run it again to complete the deletion. Until the database is dropped, `restore`
    reverts it.
    """
    from kataven.operations import account_deletion

    loss = " No dump is taken, so its data can't be recovered." if without_dump else ""
    _confirm(account, yes_delete, f"This deletes {account} and revokes all its credentials.{loss}")
    done = account_deletion.delete(current().operator, current().dump_store(folder), account, without_dump=without_dump)
    no_dump = {"dump": None, "sha256": None, "bytes": None}
    dump = no_dump if done.dump is None else _dump_fields(done.dump)
    print_fields({"deleted": account, **dump, **done.receipt.as_json()}, as_json=as_json)


@group.command("load")
@click.argument("account")
@from_option
@folder_option
@click.option("--yes-replace", metavar="ACCOUNT", help="Confirm with the account's name, without a prompt.")
@as_json
@report_errors
def load(account: str, dump: Path | None, folder: Path | None, yes_replace: str | None, as_json: bool) -> None:
    """Replace the data of ACCOUNT with a dump. ACCOUNT must be suspended or archived.

    The current data is dumped first. Keys that are not usable now are revoked in the loaded data. Only load dumps that
    you trust: a dump can contain any SQL that PostgreSQL can execute.
    """
    from kataven.operations import account_restore

    if dump is None:
        raise click.UsageError("Missing --from FILE: the dump to load.")
    _confirm(account, yes_replace, f"This replaces all data of {account}.")
    done = account_restore.load_dump(current().operator, current().dump_store(folder), account, dump)
    replaced = None if done.replaced is None else str(done.replaced.path)
    _show_loaded(account, done, {"replaced": replaced}, as_json)


@group.command("restore")
@click.argument("account")
@from_option
@click.option("--org-id", help="Zitadel organisation of the account. Default: as in the dump.")
@click.option("--server", help="Database server to place it on. Default: the one with the fewest accounts.")
@as_json
@report_errors
def restore(account: str, dump: Path | None, org_id: str | None, server: str | None, as_json: bool) -> None:
    """Reactivate an archived ACCOUNT, or recreate a deleted one from a dump with --from.

    If the dump is the one that the deletion took, the account's keys remain usable. In any other dump all keys are
    revoked: create new ones.
    """
    from kataven.operations import account_restore

    if dump is not None:
        done = account_restore.restore_from_dump(
            current().operator, current().dump_store(), account, dump, org_id=org_id, server=server
        )
        _show_loaded(account, done, {}, as_json)
        return
    if org_id is not None or server is not None:
        raise click.UsageError("--org-id and --server can only be used with --from.")
    print_fields(account_restore.restore_in_place(current().operator, account).as_json(), as_json=as_json)


@group.command("shell")
@click.argument("account")
@report_errors
def shell(account: str) -> None:
    """Open psql on the database of ACCOUNT. The operator audit log records each use."""
    from kataven.operations import account_creation
    from kataven.system import operators
    from kataven.tenancy.programs import environment

    database = current().operator.system
    row, server = account_creation.find(database, account)
    psql, url = current().programs.path("psql"), server.url_of(row.database_name)
    with database.writing() as session:
        operators.record(session, ACTOR, "account.shell_opened", account)
    # Ctrl-C must reach psql only, which cancels its statement and continues.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = subprocess.run([psql], env=environment(url), check=False).returncode  # noqa: S603 - named by the settings; no shell
    finally:
        signal.signal(signal.SIGINT, previous)
    sys.exit(status)


def _confirm(account: str, given: str | None, warning: str) -> None:
    if given is None:
        click.echo(warning, err=True)
        given = click.prompt("Type the account's name to continue", err=True)
    if given != account:
        raise click.ClickException(f"The confirmation doesn't match {account!r}. Nothing was changed.")


def _show_loaded(account: str, done: RestoredAccount, more: dict[str, Any], as_json: bool) -> None:
    fields = {"account": account, "loaded": str(done.dump.path), **more, "keys_ended": done.keys_revoked}
    print_fields({**fields, **done.receipt.as_json()}, as_json=as_json)


def _dump_fields(taken: Dump) -> dict[str, Any]:
    return {"dump": str(taken.path), "sha256": taken.sha256, "bytes": taken.bytes}
