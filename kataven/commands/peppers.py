"""`flask peppers …`: count the keys under each pepper, and check whether a pepper can be removed from the ring."""

from __future__ import annotations

from collections import Counter

import click
from flask.cli import AppGroup

from kataven.account import peppers
from kataven.commands.operator import ACTOR
from kataven.commands.output import as_json, print_rows, report_errors
from kataven.system import accounts, operators
from kataven.system.models import AccountStatus
from kataven.system.sessions import AccountSessions
from kataven.tenancy.errors import TenancyError
from kataven.web.services import services

group = AppGroup("peppers", help="Manage the peppers, the secrets that stored keys are hashed with.")

WITH_DATABASE = frozenset({AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED})


@group.command("status")
@click.option("--by-account", is_flag=True, help="Print one line per account and pepper.")
@as_json
@report_errors
def status(by_account: bool, as_json: bool) -> None:
    """Count the usable keys under each pepper. The exit status is 1 if an account's database is unavailable."""
    counted, unreachable = _in_use()
    if by_account:
        rows = [
            {"account": account, "pepper": pepper, "keys": keys}
            for account, counts in sorted(counted.items())
            for pepper, keys in sorted(counts.items())
        ]
    else:
        total = sum(counted.values(), Counter[str]())
        rows = [{"pepper": pepper, "keys": keys} for pepper, keys in sorted(total.items())]
    print_rows(rows, as_json=as_json, empty="No usable keys.")
    if unreachable:
        raise click.ClickException(_not_counted(unreachable))


@group.command("retire")
@click.argument("pepper")
@report_errors
def retire(pepper: str) -> None:
    """Check that no usable key is stored under PEPPER, so that it can be removed from KATAVEN_PEPPERS.

    A key moves to the current pepper when it is next used. Revoke the remaining keys, or wait until they are used.
    """
    counted, unreachable = _in_use()
    holders = {account: counts[pepper] for account, counts in counted.items() if counts[pepper]}
    _require_in_ring(pepper, in_use=bool(holders))
    if holders:
        listed = ", ".join(f"{account} ({keys})" for account, keys in sorted(holders.items()))
        raise click.ClickException(f"Pepper {pepper!r} is in use by {sum(holders.values())} usable keys, in {listed}.")
    if unreachable:
        raise click.ClickException(_not_counted(unreachable))
    _require_not_current(pepper)
    with services().directory.database.writing() as session:
        operators.record(session, ACTOR, "pepper.retired", None, {"pepper": pepper})
    click.echo(
        f"No usable key is stored under pepper {pepper!r}. Remove it from KATAVEN_PEPPERS, and restart every process"
        " that has it."
    )


def _require_in_ring(pepper: str, *, in_use: bool) -> None:
    """Refuse an unknown id, which may be a typo. An id that is in use is accepted, even if the ring lacks it."""
    ring = services().issuer.pepper_ids()
    if pepper not in ring and not in_use:
        raise click.BadParameter(f"No pepper {pepper!r} in the ring, only {', '.join(ring)}.", param_hint="PEPPER")


def _require_not_current(pepper: str) -> None:
    if services().issuer.pepper_ids()[0] == pepper:
        raise click.ClickException(
            f"Pepper {pepper!r} is the current one: new keys are stored under it. First put another pepper at the "
            "front of KATAVEN_PEPPERS."
        )


def _in_use() -> tuple[dict[str, Counter[str]], list[str]]:
    """The number of usable keys by account and pepper, and the accounts whose database is unavailable."""
    found = services()
    sessions = AccountSessions(found.directory, found.registry)
    with found.directory.database.reading() as session:
        names = [account.account_id for account in accounts.listing(session) if account.status in WITH_DATABASE]
    counted: dict[str, Counter[str]] = {}
    unreachable = []
    for name in names:
        try:
            with sessions.reading(name) as tenant:
                counted[name] = peppers.in_use(tenant)
        except TenancyError:
            unreachable.append(name)
    return counted, unreachable


def _not_counted(accounts: list[str]) -> str:
    return f"The databases of these accounts are unavailable, so their keys were not counted: {', '.join(accounts)}."
