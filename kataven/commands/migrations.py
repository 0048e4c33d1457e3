"""`flask migrations …`: bring databases to this code's schema, and see where each one is."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click
from flask.cli import AppGroup

from kataven.commands.output import as_json, plainly, show
from kataven.system import lifecycle, migrations
from kataven.system.migrations import AccountState
from kataven.system.schema import ACCOUNT_SCHEMA, SYSTEM_SCHEMA
from kataven.web.services import services

group = AppGroup("migrations", help="Schemas of the system database and of every account's.")

ACTOR = "cli"


@group.command("upgrade")
@click.option("--system", is_flag=True, help="The system database; it is created if it is missing.")
@click.option("--account", help="One account.")
@click.option("--all", "everyone", is_flag=True, help="Every account.")
@as_json
@plainly
def upgrade(system: bool, account: str | None, everyone: bool, as_json: bool) -> None:
    """Upgrade the system database, one account, or all. Exit status 1 if any failed."""
    if not (system or account or everyone):
        raise click.UsageError("Say what to upgrade: --system, --account NAME or --all.")
    database = services().directory.database
    if system:
        lifecycle.prepare_system(database.url.render_as_string(hide_password=False))
        click.echo(f"system database is at {SYSTEM_SCHEMA.head}", err=as_json)
    if account or everyone:
        chosen = migrations.tenants(database, account)
        states = list(migrations.upgrade(database, chosen, actor=ACTOR))
        show([_row(state) for state in states], as_json=as_json, empty="No accounts yet.")
        if any(state.error or state.revision != ACCOUNT_SCHEMA.head for state in states):
            sys.exit(1)


@group.command("status")
@click.option("--account", help="One account.")
@as_json
@plainly
def status(account: str | None, as_json: bool) -> None:
    """Show the revision of each account's database. Exit status 1 if this code can't serve one of them."""
    chosen = migrations.tenants(services().directory.database, account)
    states = [migrations.status(tenant) for tenant in chosen]
    show([_row(state) for state in states], as_json=as_json, empty="No accounts yet.")
    if not all(state.served for state in states):
        sys.exit(1)


def _row(state: AccountState) -> dict[str, Any]:
    return asdict(state)
