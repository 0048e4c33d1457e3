"""`kataven keys …`: the API keys of an account. A leaked key is revoked with one command."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from kataven.account.expiry import Expiry
from kataven.commands import key_rotation
from kataven.commands.context import current
from kataven.commands.key_options import KeyName, Moment, NetworkAddress, account_option
from kataven.commands.key_output import moment_text, print_change
from kataven.commands.options import KeyId, WholeNumber
from kataven.commands.output import as_json, print_fields, print_rows, report_errors

if TYPE_CHECKING:
    from kataven.identity.scopes import KnownScopes
    from kataven.operations.keys import KeyDetails

group = click.Group("keys", help="Create, list, rotate, pause and revoke the API keys of accounts.")
group.add_command(key_rotation.rotate)
group.add_command(key_rotation.end_former_secret)

STATUSES = ("active", "expired", "revoked", "paused", "not_yet_valid")
"""The values of `KeyStatus`, whose module imports the database's libraries."""


@group.command("list")
@account_option
@click.option("--search", default="", help="Part of a name, or the id, or the last 8 characters of a key.")
@click.option("--status", type=click.Choice(STATUSES), help="Only keys with this status.")
@click.option("--rotation-due", is_flag=True, help="Only keys that are due for rotation by the account's policy.")
@click.option("--limit", type=WholeNumber(most=10_000), default=100, show_default=True, help="Maximum number of keys.")
@as_json
@report_errors
def list_keys(account: str, search: str, status: str | None, rotation_due: bool, limit: int, as_json: bool) -> None:
    """List the API keys of an account, newest first, without their secrets."""
    from kataven.account.key_status import KeyStatus
    from kataven.operations import keys

    only = KeyStatus(status) if status else None
    due = True if rotation_due else None
    page = keys.listing(current().operator, account, limit, text=search.strip(), status=only, rotation_due=due)
    is_filtered = search or status or rotation_due
    empty = "No keys match." if is_filtered else f"No keys yet. Create one: {_create_command(account)}"
    print_rows([_row(key, as_json=as_json) for key in page.rows], as_json=as_json, empty=empty)
    if page.next is not None:
        click.echo(f"More than {limit} keys match. Use --search, or a higher --limit.", err=True)


@group.command("show")
@click.argument("key_id", type=KeyId())
@account_option
@as_json
@report_errors
def show(key_id: UUID, account: str, as_json: bool) -> None:
    """Show one API key, without its secret. KEY_ID is its id."""
    from kataven.operations import key_rotation as rotations
    from kataven.operations import keys

    operator = current().operator
    key = keys.read(operator, account, key_id)
    revoked_by = keys.revoked_by(operator, account, key)
    found = rotations.former_secrets(operator, account, key_id)
    former = [key_rotation.former_secret_fields(one) if as_json else one.hint for one in found]
    more = {"former_secrets": former, "pepper": key.pepper, "revoked_by": revoked_by}
    print_fields({"account": account, **_row(key, as_json=as_json), **_conditions(key), **more}, as_json=as_json)


@group.command("create")
@account_option
@click.option("--name", type=KeyName(), required=True, help="Display name of the key.")
@click.option(
    "--expires",
    type=click.Choice([str(choice) for choice in Expiry]),
    help="Lifetime of the key. Default: the longest that the account's policy allows.",
)
@click.option("--scope", "scopes", multiple=True, help="What the key may do, such as agents:read. Can be repeated.")
@click.option("--read-only", is_flag=True, help="Give the key every scope that allows reading, and no other.")
@click.option(
    "--allow-address",
    "allowed",
    type=NetworkAddress(),
    multiple=True,
    help="Accept the key only from this address or network. Can be repeated.",
)
@click.option(
    "--deny-address",
    "denied",
    type=NetworkAddress(),
    multiple=True,
    help="Reject the key from this address or network. Can be repeated.",
)
@click.option("--from-browsers", is_flag=True, help="Accept the key from browsers.")
@click.option("--not-before", type=Moment(), help="Reject the key before this time, such as 2027-01-31T12:00Z.")
@as_json
@report_errors
def create(
    account: str,
    name: str,
    expires: str | None,
    scopes: tuple[str, ...],
    read_only: bool,
    allowed: tuple[str, ...],
    denied: tuple[str, ...],
    from_browsers: bool,
    not_before: datetime | None,
    as_json: bool,
) -> None:
    """Create an API key. Prints the complete key once, on standard output; only its hash is stored.

    Without --scope and --read-only, the key has full access, except managing keys. No identity provider is needed, so
    this also creates the first key of an installation.
    """
    from kataven.account.api_keys import KeyRules
    from kataven.operations import keys

    operator = current().operator
    rules = KeyRules(_scopes(scopes, read_only, operator.services.scopes), allowed, denied, from_browsers, not_before)
    created = keys.create(operator, account, name, Expiry(expires) if expires else None, rules=rules)
    if as_json:
        fields = {
            "account": account,
            **_row(created.key, as_json=True),
            **_conditions(created.key),
            "key": created.text,
        }
        print_fields(fields, as_json=True)
        return
    expiry = "never expires" if created.key.expires_at is None else f"expires {moment_text(created.key.expires_at)}"
    click.echo(
        f"Created key {created.key.id} of {account}; it {expiry}. Store it now: it is not shown again.", err=True
    )
    click.echo(created.text)


@group.command("revoke")
@click.argument("key_id", type=KeyId(), required=False)
@click.option("--account", help="Account of the key. Required with KEY_ID.")
@click.option("--secret-stdin", is_flag=True, help="Read the complete key from standard input instead of KEY_ID.")
@as_json
@report_errors
def revoke(key_id: UUID | None, account: str | None, secret_stdin: bool, as_json: bool) -> None:
    """Revoke an API key. When the command returns with exit status 0, no worker on any host accepts the key.

    Pass the key's id as KEY_ID, or the key itself on standard input with --secret-stdin. Never pass the key as an
    argument: every user of the machine can read arguments. Prints the receipt: the number of workers that had to apply
    the revocation, the number that acknowledged it, and the duration. The exit status is 1 if no receipt was obtained.
    """
    from kataven.operations import keys

    if secret_stdin == (key_id is not None):
        raise click.UsageError("Pass either KEY_ID with --account, or --secret-stdin.")
    operator = current().operator
    if key_id is None:
        found, key = keys.find_by_secret(operator, _secret())
        keys.require_account(found, account)
        account, key_id = found, key.id
    if account is None:
        raise click.UsageError("Missing --account: the account of the key.")
    done = keys.revoke(operator, account, key_id)
    if done.was_revoked:
        click.echo(f"The key was already revoked at {moment_text(done.key.revoked_at)}.", err=True)
    print_change(account, "revoked", done, as_json=as_json)


@group.command("pause")
@click.argument("key_id", type=KeyId())
@account_option
@as_json
@report_errors
def pause(key_id: UUID, account: str, as_json: bool) -> None:
    """Pause an API key until it is resumed. When the command returns with exit status 0, no worker accepts the key.

    KEY_ID is its id. Prints the receipt, as `keys revoke` does.
    """
    from kataven.operations import keys

    print_change(account, "paused", keys.pause(current().operator, account, key_id), as_json=as_json)


@group.command("resume")
@click.argument("key_id", type=KeyId())
@account_option
@as_json
@report_errors
def resume(key_id: UUID, account: str, as_json: bool) -> None:
    """Accept a paused API key again. KEY_ID is its id. Prints the receipt."""
    from kataven.operations import keys

    print_change(account, "resumed", keys.resume(current().operator, account, key_id), as_json=as_json)


def _scopes(names: tuple[str, ...], read_only: bool, known: KnownScopes) -> tuple[str, ...] | None:
    from kataven.identity.scopes import normalized

    if not names:
        return known.read_only() if read_only else None
    if read_only:
        raise click.UsageError("Pass either --scope or --read-only.")
    try:
        return normalized(names, known)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--scope") from None


def _secret() -> str:
    """The key from standard input. On a terminal, a prompt that does not show it."""
    if sys.stdin.isatty():
        return str(click.prompt("API key", hide_input=True, err=True)).strip()
    return sys.stdin.readline().strip()


def _row(key: KeyDetails, *, as_json: bool) -> dict[str, Any]:
    full_access = None if as_json else "full access"
    return {
        "id": str(key.id),
        "name": key.name,
        "hint": key.hint,
        "status": str(key.status),
        "scopes": full_access if key.rules.scopes is None else list(key.rules.scopes),
        "last_used_at": moment_text(key.last_used_at),
        "expires_at": moment_text(key.expires_at),
        "revoked_at": moment_text(key.revoked_at),
        "created_at": moment_text(key.created_at),
        "created_by": key.created_by,
        "rotation_due": key.rotation_due,
    }


def _conditions(key: KeyDetails) -> dict[str, Any]:
    return {
        "allowed_addresses": list(key.rules.allowed_addresses),
        "denied_addresses": list(key.rules.denied_addresses),
        "from_browsers": key.rules.from_browsers,
        "browser_use_at": moment_text(key.browser_use_at),
        "not_before": moment_text(key.rules.not_before),
        "paused_at": moment_text(key.paused_at),
        "secret_created_at": moment_text(key.secret_created_at),
    }


def _create_command(account: str) -> str:
    return f"{current().program} keys create --account {account} --name NAME"
