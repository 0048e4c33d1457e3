"""`flask peppers …`: what each pepper still carries, and whether one may be taken out of the ring."""

from __future__ import annotations

from collections import Counter

import click
from flask.cli import AppGroup

from kataven.account import peppers
from kataven.commands.operator import ACTOR
from kataven.commands.output import as_json, plainly, show
from kataven.system import accounts, operators
from kataven.system.models import AccountStatus
from kataven.system.sessions import AccountSessions
from kataven.tenancy.errors import TenancyError
from kataven.web.services import services

group = AppGroup("peppers", help="The secrets that stored keys depend on.")

WITH_DATABASE = frozenset({AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED})


@group.command("status")
@click.option("--by-account", is_flag=True, help="One line for each account and pepper.")
@as_json
@plainly
def status(by_account: bool, as_json: bool) -> None:
    """Count the usable keys under each pepper. Exit status 1 if an account can't be asked."""
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
    show(rows, as_json=as_json, empty="No usable key is stored under any pepper.")
    if unreachable:
        raise click.ClickException(_not_counted(unreachable))


@group.command("retire")
@click.argument("pepper")
@plainly
def retire(pepper: str) -> None:
    """Check that PEPPER carries no usable key, so that it can be taken out of KATAVEN_PEPPERS.

    A key moves to the current pepper when it is next used. What is left over is revoked, or waited for.
    """
    counted, unreachable = _in_use()
    holders = {account: counts[pepper] for account, counts in counted.items() if counts[pepper]}
    _require_in_ring(pepper, in_use=bool(holders))
    if holders:
        listed = ", ".join(f"{account} ({keys})" for account, keys in sorted(holders.items()))
        raise click.ClickException(f"Pepper {pepper!r} is in use: {sum(holders.values())} usable keys, in {listed}.")
    if unreachable:
        raise click.ClickException(_not_counted(unreachable))
    _require_not_current(pepper)
    with services().directory.database.writing() as session:
        operators.record(session, ACTOR, "pepper.retired", None, {"pepper": pepper})
    click.echo(f"Pepper {pepper!r} carries no usable key. Take it out of KATAVEN_PEPPERS and restart who holds it.")


def _require_in_ring(pepper: str, *, in_use: bool) -> None:
    """Refuse an id that is misspelt. One that keys are stored under is none, even if the ring has lost it."""
    ring = services().issuer.pepper_ids()
    if pepper not in ring and not in_use:
        raise click.BadParameter(f"The ring has no pepper {pepper!r}. It has: {', '.join(ring)}.", param_hint="PEPPER")


def _require_not_current(pepper: str) -> None:
    if services().issuer.pepper_ids()[0] == pepper:
        raise click.ClickException(
            f"Pepper {pepper!r} is the current one: new keys are stored under it. Put another in front of it in "
            "KATAVEN_PEPPERS first."
        )


def _in_use() -> tuple[dict[str, Counter[str]], list[str]]:
    """The usable keys of each account by pepper, and the accounts whose database can't be asked."""
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
    return f"These accounts' databases can't be reached, so their keys are not counted: {', '.join(accounts)}."
