"""`kataven limits …`: the rate limits of accounts and of single keys."""

from __future__ import annotations

from uuid import UUID

import click

from kataven.commands.accounts import show_key_limits, show_limits
from kataven.commands.limit_options import limit_options, raise_options
from kataven.commands.options import KeyId
from kataven.commands.output import as_json, report_errors

group = click.Group("limits", help="Show and change the rate limits of accounts and keys.")

account_option = click.option("--account", required=True, help="Account of the limits.")
key_option = click.option("--key", "key_id", type=KeyId(), help="Id of an API key: its own limits, not the account's.")


@group.command("show")
@account_option
@key_option
@as_json
@report_errors
def show(account: str, key_id: UUID | None, as_json: bool) -> None:
    """Show the limits of an account, or of one of its keys."""
    if key_id is None:
        show_limits(account, {}, as_json=as_json)
    else:
        show_key_limits(account, key_id, {}, clear=False, as_json=as_json)


@group.command("set")
@account_option
@key_option
@limit_options
@raise_options
@click.option("--clear", is_flag=True, help="With --key: remove the key's own limits first.")
@as_json
@report_errors
def change(
    account: str,
    key_id: UUID | None,
    clear: bool,
    raise_for: int | None,
    end_raise: bool,
    as_json: bool,
    **given: int | None,
) -> None:
    """Change limits of an account, or of one of its keys. Every worker applies them within a second.

    Limits that are not given are kept. A shorter window must not allow more than a longer one, and a key's limits must
    not exceed the account's.
    """
    if key_id is not None and (raise_for or end_raise):
        raise click.UsageError("--raise-for and --end-raise apply to accounts, not to keys. Omit --key.")
    if not (clear or end_raise) and all(value is None for value in given.values()):
        raise click.UsageError("Nothing to change. Pass at least one limit, such as --per-minute 120.")
    if key_id is not None:
        show_key_limits(account, key_id, given, clear=clear, as_json=as_json)
    elif clear:
        raise click.UsageError("--clear can only be used with --key.")
    else:
        show_limits(account, given, raise_for, end_raise=end_raise, as_json=as_json)
