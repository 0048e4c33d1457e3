"""`flask accounts …`: make accounts, look at them, set their limits and policy."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any
from uuid import UUID

import click
from flask.cli import AppGroup

from kataven.account.errors import LimitAboveAccount
from kataven.commands.office import ACTOR, operator_context
from kataven.commands.options import WholeNumber
from kataven.commands.output import as_json, plainly, show, show_one
from kataven.operations import account_creation, account_status, database_repair, operator_actions
from kataven.ratelimit.policy import MAX_LIMIT
from kataven.system import accounts, limits
from kataven.system.directory import AccountRecord
from kataven.system.errors import NoSuchAccount
from kataven.system.models import AccountRateLimits, AccountStatus
from kataven.web.services import Services, services

MAX_DAYS = 36_500

limit = WholeNumber(most=MAX_LIMIT)

group = AppGroup("accounts", help="Accounts: one customer, one database.")


@group.command("create")
@click.argument("account")
@click.option("--name", help="What people read; the account's name if left out.")
@click.option("--org-id", help="The Zitadel organisation whose members may sign in.")
@click.option("--server", help="The database server to place it on; the least loaded one if left out.")
@click.option("--discoverable", is_flag=True, help="List it among the accounts that can be signed in to.")
@as_json
@plainly
def create(
    account: str, name: str | None, org_id: str | None, server: str | None, discoverable: bool, as_json: bool
) -> None:
    """Create ACCOUNT and its database. Nothing is left half-made if it fails."""
    new = account_creation.NewAccount(account, name or account, org_id, server, discoverable)
    operator_actions.create_account(services(), new, ACTOR)
    _show_account(account, as_json)


@group.command("list")
@click.option("--status", type=click.Choice([str(status) for status in AccountStatus]), help="Only these.")
@as_json
@plainly
def list_accounts(status: str | None, as_json: bool) -> None:
    """List every account."""
    with services().directory.database.reading() as session:
        found = accounts.listing(session, AccountStatus(status) if status else None)
    rows = [
        {
            "account": account.account_id,
            "name": account.account_name,
            "status": account.status,
            "server": account.server,
            "revision": account.schema_revision,
            "created_at": account.created_at.isoformat(timespec="seconds"),
        }
        for account in found
    ]
    show(rows, as_json=as_json, empty="No accounts yet. Make one: flask accounts create NAME")


@group.command("show")
@click.argument("account")
@as_json
@plainly
def show_account(account: str, as_json: bool) -> None:
    """Show one account."""
    _show_account(account, as_json)


@group.command("limits")
@click.argument("account")
@click.option("--per-minute", type=limit, help="How many requests in any 60 seconds.")
@click.option("--per-hour", type=limit, help="How many requests in any 60 minutes; at least --per-minute.")
@click.option("--per-day", type=limit, help="How many requests in any 24 hours; at least --per-hour.")
@click.option("--concurrent", type=limit, help="How many requests at the same time.")
@as_json
@plainly
def change_limits(account: str, as_json: bool, **given: int | None) -> None:
    """Show an account's limits, or change those that are given; every worker learns of it within a second."""
    found = services()
    changes = {name: value for name, value in given.items() if value is not None}
    if changes:
        show_one(asdict(operator_actions.change_limits(found, account, changes, ACTOR)), as_json=as_json)
    else:
        show_one(asdict(_record(found, account).limits), as_json=as_json)


@group.command("key-limits")
@click.argument("account")
@click.argument("key_id", type=click.UUID)
@click.option("--per-minute", type=limit, help="How many requests in any 60 seconds.")
@click.option("--per-hour", type=limit, help="How many requests in any 60 minutes; at least --per-minute.")
@click.option("--per-day", type=limit, help="How many requests in any 24 hours; at least --per-hour.")
@click.option("--concurrent", type=limit, help="How many requests at the same time.")
@click.option("--clear", is_flag=True, help="Drop the key's own limits first; alone, the account's apply to it.")
@as_json
@plainly
def key_limits(account: str, key_id: UUID, clear: bool, as_json: bool, **given: int | None) -> None:
    """Show the limits of one API key of ACCOUNT, or change those that are given; workers learn of it within a second.

    KEY_ID is the `id` in GET /v1/api-keys, and what the log calls `api_key:ID`. Limits above the
    account's are refused.
    """
    found = services()
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        if changes or clear:
            key = operator_actions.change_key_limits(found, account, key_id, changes, ACTOR, clear=clear)
        else:
            key = operator_actions.key_limits(found, account, key_id)
    except LimitAboveAccount as error:
        raising = f"flask accounts limits {account} --{error.name} {error.requested}"
        raise click.ClickException(f"{error}. Give a lower one, or raise the account's: {raising}") from error
    own = {name: key.limits.get(name) for name in limits.COLUMNS}
    show_one({"key": str(key.id), "name": key.name, "hint": key.hint, **own}, as_json=as_json)


@group.command("suspend")
@click.argument("account")
@as_json
@plainly
def suspend(account: str, as_json: bool) -> None:
    """Close ACCOUNT for now: from this command's answer on, no worker lets it in."""
    show_one(account_status.suspend(operator_context(), account).as_json(), as_json=as_json)


@group.command("resume")
@click.argument("account")
@as_json
@plainly
def resume(account: str, as_json: bool) -> None:
    """Open a suspended ACCOUNT again; an archived one is restored."""
    show_one(account_status.resume(operator_context(), account).as_json(), as_json=as_json)


@group.command("archive")
@click.argument("account")
@as_json
@plainly
def archive(account: str, as_json: bool) -> None:
    """Close ACCOUNT for good and keep its database; `restore` opens it again."""
    show_one(account_status.archive(operator_context(), account).as_json(), as_json=as_json)


@group.command("repair")
@as_json
@plainly
def repair(as_json: bool) -> None:
    """Finish, or take back, what was being made when its maker died. What may be somebody's data is only told.

    Exit status 1 if a server could not be looked at.
    """
    found = database_repair.repair_all(services().directory.database, actor=ACTOR)
    for account in {one.repair.orphan.account for one in found if one.repair is not None and one.repair.done}:
        if account is not None:
            operator_actions.now_exists(services(), account)
    show([_repaired(orphan) for orphan in found], as_json=as_json, empty="Nothing is broken.")
    if any(orphan.error for orphan in found):
        sys.exit(1)


@group.command("policy")
@click.argument("account")
@click.option("--max-key-expiry-days", type=WholeNumber(most=MAX_DAYS), help="How many days a key may live.")
@click.option("--no-max-key-expiry", is_flag=True, help="Let keys live for ever.")
@click.option("--existing", is_flag=True, help="Shorten the keys that are there, too.")
@as_json
@plainly
def policy(
    account: str, max_key_expiry_days: int | None, no_max_key_expiry: bool, existing: bool, as_json: bool
) -> None:
    """Set how long ACCOUNT's API keys may live."""
    if (max_key_expiry_days is None) != no_max_key_expiry:
        raise click.UsageError("Give --max-key-expiry-days N or --no-max-key-expiry.")
    shortened, receipt = account_status.limit_expiry(
        operator_context(), account, max_key_expiry_days, existing=existing
    )
    show_one({"keys_shortened": shortened, **receipt.as_json()}, as_json=as_json)


def _repaired(found: database_repair.RepairResult) -> dict[str, Any]:
    if found.repair is None:
        nothing = {"database": None, "account": None}
        return {"server": found.server, **nothing, "found": "unreachable", "repaired": False, "reason": found.error}
    orphan = found.repair.orphan
    return {
        "server": found.server,
        "database": orphan.database,
        "account": orphan.account,
        "found": str(orphan.kind),
        "repaired": found.repair.done,
        "reason": found.repair.reason or None,
    }


def _show_account(account: str, as_json: bool) -> None:
    with services().directory.database.reading() as session:
        row = accounts.read(session, account)
        own = limits.limits_of(session.get(AccountRateLimits, account))
    fields: dict[str, Any] = {
        "account": row.account_id,
        "name": row.account_name,
        "status": row.status,
        "database": row.database_name,
        "server": row.server,
        "revision": row.schema_revision,
        "zitadel_org_id": row.zitadel_org_id,
        "discoverable": row.discoverable,
        "max_key_expiry_days": row.max_key_expiry_days,
        **asdict(own),
        "created_at": row.created_at.isoformat(timespec="seconds"),
    }
    show_one(fields, as_json=as_json)


def _record(found: Services, account: str) -> AccountRecord:
    record = found.directory.read(account)
    if record is None:
        raise NoSuchAccount(account)
    return record
