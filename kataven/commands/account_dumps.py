"""`flask accounts dump|delete|load|restore|shell`: an account's data as a file, its end, and its way back."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from kataven.commands.accounts import group
from kataven.commands.local_tools import dump_store, local_tools
from kataven.commands.operator import ACTOR, cli_operator
from kataven.commands.output import as_json, plainly, show_one
from kataven.operations import account_creation, account_deletion, account_dumps, account_restore
from kataven.system import operators
from kataven.tenancy.databases.dumps import Dump
from kataven.tenancy.programs import environment
from kataven.web.services import services

folder_option = click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Where the dump goes; else KATAVEN_DUMP_DIR."
)
from_option = click.option(
    "--from", "dump", type=click.Path(dir_okay=False, path_type=Path), help="The dump, as `dump` or `delete` named it."
)


@group.command("dump")
@click.argument("account")
@folder_option
@as_json
@plainly
def dump_account(account: str, folder: Path | None, as_json: bool) -> None:
    """Write all that ACCOUNT holds to a file of mode 0600; it goes on being served."""
    show_one(_told(account_dumps.dump(cli_operator(), dump_store(folder), account)), as_json=as_json)


@group.command("delete")
@click.argument("account")
@folder_option
@click.option("--without-dump", is_flag=True, help="Take no dump: what ACCOUNT holds is gone for good.")
@click.option("--yes-delete", metavar="ACCOUNT", help="Its name once more, where nobody is there to type it.")
@as_json
@plainly
def delete(account: str, folder: Path | None, without_dump: bool, yes_delete: str | None, as_json: bool) -> None:
    """Delete ACCOUNT: end its credentials everywhere, dump it, drop its database.

    Killed half-way, it is finished by running it again; until its database is dropped, `restore` brings it back.
    """
    loss = "No dump is taken. " if without_dump else ""
    _confirm(account, yes_delete, f"{loss}This deletes {account} and ends all its credentials.")
    done = account_deletion.delete(cli_operator(), dump_store(folder), account, without_dump=without_dump)
    nothing = {"dump": None, "sha256": None, "bytes": None}
    told = nothing if done.dump is None else _told(done.dump)
    show_one({"deleted": account, **told, **done.receipt.as_json()}, as_json=as_json)


@group.command("load")
@click.argument("account")
@from_option
@folder_option
@click.option("--yes-replace", metavar="ACCOUNT", help="Its name once more, where nobody is there to type it.")
@as_json
@plainly
def load(account: str, dump: Path | None, folder: Path | None, yes_replace: str | None, as_json: bool) -> None:
    """Put a dump in the place of all that ACCOUNT holds; ACCOUNT has to be suspended or archived.

    What it holds now is dumped first. Keys that are not good now stay so. Load only what you trust: a dump can contain
    anything that PostgreSQL can execute.
    """
    if dump is None:
        raise click.UsageError("Say which dump to load: --from FILE.")
    _confirm(account, yes_replace, f"This replaces all that {account} holds.")
    done = account_restore.load_dump(cli_operator(), dump_store(folder), account, dump)
    replaced = None if done.replaced is None else str(done.replaced.path)
    _show_loaded(account, done, {"replaced": replaced}, as_json)


@group.command("restore")
@click.argument("account")
@from_option
@click.option("--org-id", help="Its Zitadel organisation, if that is another one now.")
@click.option("--server", help="The database server to place it on; the least loaded one if left out.")
@as_json
@plainly
def restore(account: str, dump: Path | None, org_id: str | None, server: str | None, as_json: bool) -> None:
    """Bring ACCOUNT back: archived, or deleted, and then --from a dump of it.

    From the dump that its deletion took, its keys are good again; from any other, new ones have to be made.
    """
    if dump is not None:
        done = account_restore.restore_from_dump(
            cli_operator(), dump_store(), account, dump, org_id=org_id, server=server
        )
        _show_loaded(account, done, {}, as_json)
        return
    if org_id is not None or server is not None:
        raise click.UsageError("--org-id and --server are for an account that is made again --from a dump.")
    show_one(account_restore.restore_in_place(cli_operator(), account).as_json(), as_json=as_json)


@group.command("shell")
@click.argument("account")
@plainly
def shell(account: str) -> None:
    """Open psql on ACCOUNT's database. The operators' trail says that you did."""
    database = services().directory.database
    row, server = account_creation.find(database, account)
    psql, url = local_tools().programs.path("psql"), server.url_of(row.database_name)
    with database.writing() as session:
        operators.record(session, ACTOR, "account.shell_opened", account)
    # Ctrl-C is for psql, which cancels its statement and stays.
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = subprocess.run([psql], env=environment(url), check=False).returncode  # noqa: S603 - named by the settings; no shell
    finally:
        signal.signal(signal.SIGINT, ours)
    sys.exit(status)


def _confirm(account: str, given: str | None, warning: str) -> None:
    if given is None:
        click.echo(warning, err=True)
        given = click.prompt("Type its name to go on", err=True)
    if given != account:
        raise click.ClickException(f"That is not {account!r}: nothing was done.")


def _show_loaded(account: str, done: account_restore.RestoredAccount, more: dict[str, Any], as_json: bool) -> None:
    fields = {"account": account, "loaded": str(done.dump.path), **more, "keys_ended": done.keys_revoked}
    show_one({**fields, **done.receipt.as_json()}, as_json=as_json)


def _told(taken: Dump) -> dict[str, Any]:
    return {"dump": str(taken.path), "sha256": taken.sha256, "bytes": taken.bytes}
