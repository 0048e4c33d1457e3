"""`kataven keys rotate` and `kataven keys end-former-secret`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from kataven.commands.context import current
from kataven.commands.key_options import account_option
from kataven.commands.key_output import NOT_LOGGED, moment_text, print_change
from kataven.commands.options import KeyId, WholeNumber
from kataven.commands.output import as_json, print_fields, report_errors

if TYPE_CHECKING:
    from kataven.operations.key_rotation import FormerSecretDetails, RotatedKey

MAX_GRACE_SECONDS = 7 * 24 * 3600
DEFAULT_GRACE_SECONDS = 24 * 3600
"""Those of `account.rotation`, whose module imports the database's libraries."""


@click.command("rotate")
@click.argument("key_id", type=KeyId())
@account_option
@click.option(
    "--grace-seconds",
    type=WholeNumber(least=0, most=MAX_GRACE_SECONDS),
    default=DEFAULT_GRACE_SECONDS,
    show_default=True,
    help="How long the current secret is accepted after the first use of the new one. At most 7 days.",
)
@as_json
@report_errors
def rotate(key_id: UUID, account: str, grace_seconds: int, as_json: bool) -> None:
    """Give an API key a new secret. Prints the complete key once, on standard output; only its hash is stored.

    KEY_ID is its id, which remains the same, with its name, scopes and limits. The current secret is accepted until the
    new one is used, and then for the grace period. If the new secret is lost before it was used, run the command again.
    """
    from kataven.operations import key_rotation

    done = key_rotation.rotate(current().operator, account, key_id, grace_seconds)
    if not done.is_logged:
        click.echo(NOT_LOGGED, err=True)
    if as_json:
        print_fields(_rotated(account, done), as_json=True)
        return
    if done.receipt is None:
        rest = f"The secret that ends in {done.former_hint} is accepted until the new one is used"
        rest += f", and then for {grace_seconds} seconds" if grace_seconds else ""
    else:
        rest = f"The unused secret that ends in {done.former_hint} is refused; the one before it is accepted"
    click.echo(f"Rotated key {done.key.id} of {account}. {rest}. Store the new key: it is not shown again.", err=True)
    click.echo(done.text)


@click.command("end-former-secret")
@click.argument("key_id", type=KeyId())
@account_option
@click.option(
    "--ends-in-seconds",
    type=WholeNumber(least=0, most=MAX_GRACE_SECONDS),
    default=0,
    show_default=True,
    help="Refuse the former secret after this time at the latest. A later end than the current one changes nothing.",
)
@as_json
@report_errors
def end_former_secret(key_id: UUID, account: str, ends_in_seconds: int, as_json: bool) -> None:
    """End the former secret of a rotated API key. When the command returns, no worker accepts it.

    KEY_ID is its id. The current secret remains accepted. With --ends-in-seconds, the former secret is accepted until
    then at the latest. Prints the receipt, as `keys revoke` does.
    """
    from kataven.operations import key_rotation

    done = key_rotation.end_former_secret(current().operator, account, key_id, ends_in_seconds)
    print_change(account, "former_secret_ended", done, as_json=as_json)


def former_secret_fields(found: FormerSecretDetails) -> dict[str, Any]:
    return {
        "hint": found.hint,
        "rotated_at": moment_text(found.rotated_at),
        "ends_at": moment_text(found.ends_at),
        "late_uses": found.late_uses,
        "last_late_use_at": moment_text(found.last_late_use_at),
        "last_late_address": found.last_late_address,
    }


def _rotated(account: str, done: RotatedKey) -> dict[str, Any]:
    return {
        "account": account,
        "id": str(done.key.id),
        "name": done.key.name,
        "hint": done.key.hint,
        "former_hint": done.former_hint,
        "receipt": None if done.receipt is None else done.receipt.as_json(),
        "key": done.text,
    }
