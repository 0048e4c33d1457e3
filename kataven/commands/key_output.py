"""Output of the commands for API keys."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from kataven.commands.output import print_fields

if TYPE_CHECKING:
    from kataven.operations.keys import ChangedKey, KeyRevocation

NOT_LOGGED = "Warning: the operator audit log was unavailable; the account's own audit log has the event."


def print_change(account: str, change: str, done: ChangedKey | KeyRevocation, *, as_json: bool) -> None:
    """Print a changed key and its receipt. `change` names the field with the id of the key."""
    if not done.is_logged:
        click.echo(NOT_LOGGED, err=True)
    fields = {"account": account, change: str(done.key.id), "name": done.key.name, "hint": done.key.hint}
    print_fields({**fields, **done.receipt.as_json()}, as_json=as_json)


def moment_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
