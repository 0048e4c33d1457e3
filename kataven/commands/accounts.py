"""`kataven accounts …`: create accounts, show them, change their status, limits and policy."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from kataven.commands.context import current
from kataven.commands.limit_options import limit_options, raise_options
from kataven.commands.options import KeyId, WholeNumber
from kataven.commands.output import as_json, print_fields, print_rows, report_errors

if TYPE_CHECKING:
    from kataven.operations.database_repair import RepairResult

MAX_DAYS = 36_500
STATUSES = ("provisioning", "active", "suspended", "archived", "failed", "deleting")
"""The values of `AccountStatus`, whose module imports the database's libraries."""

group = click.Group("accounts", help="Manage accounts and their databases.")


@group.command("create")
@click.argument("account")
@click.option("--name", help="Display name. Default: ACCOUNT.")
@click.option("--org-id", help="Zitadel organisation whose members can sign in.")
@click.option("--server", help="Database server to place it on. Default: the one with the fewest accounts.")
@click.option("--discoverable", is_flag=True, help="List the account in GET /api/accounts.")
@as_json
@report_errors
def create(
    account: str, name: str | None, org_id: str | None, server: str | None, discoverable: bool, as_json: bool
) -> None:
    """Create ACCOUNT and its database. If a step fails, neither is kept."""
    from kataven.operations import account_creation

    new = account_creation.NewAccount(account, name or account, org_id, server, discoverable)
    account_creation.create_account(current().operator, new)
    _show_account(account, as_json)


@group.command("list")
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    help="Only accounts with this status.",
)
@as_json
@report_errors
def list_accounts(status: str | None, as_json: bool) -> None:
    """List all accounts."""
    from kataven.system import accounts
    from kataven.system.models import AccountStatus

    with current().operator.system.reading() as session:
        rows = (
            {
                "account": account.account,
                "name": account.name,
                "status": account.status,
                "server": account.server,
                "revision": account.revision,
                "created_at": account.created_at.isoformat(timespec="seconds"),
            }
            for account in accounts.summaries(session, AccountStatus(status) if status else None)
        )
        create = f"No accounts yet. Create one: {current().program} accounts create NAME"
        print_rows(rows, as_json=as_json, empty=create)


@group.command("show")
@click.argument("account")
@as_json
@report_errors
def show_account(account: str, as_json: bool) -> None:
    """Show the properties of ACCOUNT."""
    _show_account(account, as_json)


@group.command("limits")
@click.argument("account")
@limit_options
@raise_options
@as_json
@report_errors
def change_limits(account: str, raise_for: int | None, end_raise: bool, as_json: bool, **given: int | None) -> None:
    """Show the rate limits of ACCOUNT, or change the given ones. Every worker applies them within a second.

    With --raise-for, the given limits are raised for a time. They end automatically, at the same moment in all workers.
    """
    show_limits(account, given, raise_for, end_raise=end_raise, as_json=as_json)


@group.command("key-limits")
@click.argument("account")
@click.argument("key_id", type=KeyId())
@limit_options
@click.option("--clear", is_flag=True, help="Remove the key's own limits first.")
@as_json
@report_errors
def key_limits(account: str, key_id: UUID, clear: bool, as_json: bool, **given: int | None) -> None:
    """Show the rate limits of one API key, or change the given ones. Every worker applies them within a second.

    KEY_ID is the `id` in GET /v1/api-keys; logs contain it as `api_key:ID`. Limits above those of ACCOUNT are refused.
    """
    show_key_limits(account, key_id, given, clear=clear, as_json=as_json)


@group.command("suspend")
@click.argument("account")
@as_json
@report_errors
def suspend(account: str, as_json: bool) -> None:
    """Suspend ACCOUNT: refuse its requests until `resume`. Takes effect on every worker before the command returns."""
    from kataven.operations import account_status

    print_fields(account_status.suspend(current().operator, account).as_json(), as_json=as_json)


@group.command("resume")
@click.argument("account")
@as_json
@report_errors
def resume(account: str, as_json: bool) -> None:
    """Reactivate a suspended ACCOUNT. Use `restore` for an archived one."""
    from kataven.operations import account_status

    print_fields(account_status.resume(current().operator, account).as_json(), as_json=as_json)


@group.command("archive")
@click.argument("account")
@as_json
@report_errors
def archive(account: str, as_json: bool) -> None:
    """Archive ACCOUNT: refuse its requests and keep its database. Use `restore` to reactivate it."""
    from kataven.operations import account_status

    print_fields(account_status.archive(current().operator, account).as_json(), as_json=as_json)


@group.command("repair")
@as_json
@report_errors
def repair(as_json: bool) -> None:
    """Complete or remove what interrupted commands left behind. Databases that may contain data are only reported.

    The exit status is 1 if a server could not be reached.
    """
    from kataven.operations import database_repair

    results = database_repair.repair_all(current().operator)
    print_rows([_repaired(result) for result in results], as_json=as_json, empty="Nothing to repair.")
    if any(result.error for result in results):
        sys.exit(1)


@group.command("policy")
@click.argument("account")
@click.option("--max-key-expiry-days", type=WholeNumber(most=MAX_DAYS), help="Maximum lifetime of API keys, in days.")
@click.option("--no-max-key-expiry", is_flag=True, help="Remove the maximum lifetime.")
@click.option("--existing", is_flag=True, help="Also shorten the lifetime of existing keys.")
@click.option(
    "--rotate-after-days", type=WholeNumber(most=MAX_DAYS), help="Mark keys as due for rotation at this age, in days."
)
@click.option("--no-rotate-after-days", is_flag=True, help="Mark no keys as due for rotation.")
@as_json
@report_errors
def policy(
    account: str,
    max_key_expiry_days: int | None,
    no_max_key_expiry: bool,
    existing: bool,
    rotate_after_days: int | None,
    no_rotate_after_days: bool,
    as_json: bool,
) -> None:
    """Set the maximum lifetime of the API keys of ACCOUNT, and the age at which their secrets are due for rotation.

    A key that is due remains accepted: GET /v1/api-keys and the Hub show it. The age counts from the last rotation.
    """
    lifetime, rotation = (max_key_expiry_days, no_max_key_expiry), (rotate_after_days, no_rotate_after_days)
    if _is_twice(*lifetime):
        raise click.UsageError("Pass either --max-key-expiry-days N or --no-max-key-expiry.")
    if _is_twice(*rotation):
        raise click.UsageError("Pass either --rotate-after-days N or --no-rotate-after-days.")
    if not any((*lifetime, *rotation)):
        raise click.UsageError("Pass --max-key-expiry-days N, --rotate-after-days N, or the option that removes one.")
    from kataven.operations import account_status

    operator, fields = current().operator, {}
    if any(rotation):
        account_status.change_rotation_policy(operator, account, rotate_after_days)
        fields["rotate_after_days"] = rotate_after_days
    if any(lifetime):
        done = account_status.change_key_policy(operator, account, max_key_expiry_days, existing=existing)
        fields |= {"keys_shortened": done[0], **done[1].as_json()}
    print_fields(fields, as_json=as_json)


@group.command("email-domains")
@click.argument("account")
@click.argument("domains", nargs=-1)
@click.option("--none", "remove", is_flag=True, help="Remove all domains.")
@as_json
@report_errors
def email_domains(account: str, domains: tuple[str, ...], remove: bool, as_json: bool) -> None:
    """Show or set the e-mail DOMAINS of ACCOUNT.

    A user who signs in to the Hub with an e-mail address of a domain starts in this account, if the user has a role in
    it. A domain grants no access.
    """
    if domains and remove:
        raise click.UsageError("Pass either DOMAINS or --none.")
    from kataven.operations import email_domains as domains_of_account

    operator = current().operator
    if domains or remove:
        found = domains_of_account.change(operator, account, domains)
    else:
        found = domains_of_account.read(operator, account)
    print_fields({"account": account, "email_domains": list(found)}, as_json=as_json)


def _is_twice(value: int | None, removed: bool) -> bool:
    return value is not None and removed


def show_limits(
    account: str,
    given: dict[str, int | None],
    raise_hours: int | None = None,
    *,
    end_raise: bool = False,
    as_json: bool,
) -> None:
    """Change or raise the given limits of an account, if any, and show all of them."""
    from kataven.operations import account_limits, limit_raises

    operator = current().operator
    changes = {name: value for name, value in given.items() if value is not None}
    if end_raise and (changes or raise_hours):
        raise click.UsageError("--end-raise can't be combined with limits or --raise-for.")
    if raise_hours and not changes:
        raise click.UsageError("--raise-for needs at least one limit, such as --per-minute 120.")
    logged = True
    if end_raise:
        ended, logged = limit_raises.end(operator, account)
        if ended is None:
            click.echo(f"The limits of {account} are not raised.", err=True)
    elif raise_hours:
        _, logged = limit_raises.raise_limits(operator, account, changes, raise_hours)
    elif changes:
        account_limits.change(operator, account, changes)
    if not logged:
        click.echo("The account's database is unavailable: only the operator audit log has this event.", err=True)
    fields: dict[str, Any] = asdict(account_limits.read(operator, account))
    raised = limit_raises.read(operator, account)
    if raised is not None:
        fields |= {f"raised_{name}": value for name, value in raised.values.items()}
        fields |= {"raised_until": raised.ends_at.isoformat(timespec="seconds")}
    print_fields(fields, as_json=as_json)


def show_key_limits(account: str, key_id: UUID, given: dict[str, int | None], *, clear: bool, as_json: bool) -> None:
    """Change the given limits of a key, if any, and show all of them."""
    from kataven.account.errors import LimitAboveAccount
    from kataven.operations import key_limits as limits_of_key
    from kataven.system import limits

    operator = current().operator
    changes = {name: value for name, value in given.items() if value is not None}
    try:
        if changes or clear:
            key = limits_of_key.change(operator, account, key_id, changes, clear=clear)
        else:
            key = limits_of_key.read(operator, account, key_id)
    except LimitAboveAccount as error:
        fix = f"{current().program} accounts limits {account} --{error.name} {error.requested}"
        raise click.ClickException(f"{error}. Use a lower limit, or raise the account's: {fix}") from error
    own = {name: key.limits.get(name) for name in limits.COLUMNS}
    print_fields({"key": str(key.id), "name": key.name, "hint": key.hint, **own}, as_json=as_json)


def _repaired(found: RepairResult) -> dict[str, Any]:
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
    from kataven.system import accounts, limits, rotation_policy
    from kataven.system.models import AccountRateLimits

    with current().operator.system.reading() as session:
        row = accounts.read(session, account)
        own = limits.limits_of(session.get(AccountRateLimits, account))
        rotate_after_days = rotation_policy.read(session, account)
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
        "rotate_after_days": rotate_after_days,
        **asdict(own),
        "created_at": row.created_at.isoformat(timespec="seconds"),
    }
    print_fields(fields, as_json=as_json)
