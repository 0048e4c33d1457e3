"""`kataven peppers …`: count the keys under each pepper, and check whether a pepper can be removed from the ring."""

from __future__ import annotations

from collections import Counter

import click

from kataven.commands.context import ACTOR, current
from kataven.commands.output import as_json, print_fields, print_rows, report_errors

group = click.Group("peppers", help="Manage the peppers, the secrets that stored keys are hashed with.")


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
@as_json
@report_errors
def retire(pepper: str, as_json: bool) -> None:
    """Check that no usable key is stored under PEPPER, so that it can be removed from KATAVEN_PEPPERS.

    A key moves to the current pepper when it is next used. Revoke the remaining keys, or wait until they are used.
    """
    from kataven.system import operators

    counted, unreachable = _in_use()
    holders = {account: counts[pepper] for account, counts in counted.items() if counts[pepper]}
    _require_in_ring(pepper, in_use=bool(holders))
    if holders:
        listed = ", ".join(f"{account} ({keys})" for account, keys in sorted(holders.items()))
        raise click.ClickException(f"Pepper {pepper!r} is in use by {sum(holders.values())} usable keys, in {listed}.")
    if unreachable:
        raise click.ClickException(_not_counted(unreachable))
    _require_not_current(pepper)
    with current().operator.system.writing() as session:
        operators.record(session, ACTOR, "pepper.retired", None, {"pepper": pepper})
    if as_json:
        print_fields({"retired": pepper}, as_json=True)
        return
    click.echo(
        f"No usable key is stored under pepper {pepper!r}. Remove it from KATAVEN_PEPPERS, and restart every process"
        " that has it."
    )


def _require_in_ring(pepper: str, *, in_use: bool) -> None:
    """Refuse an unknown id, which may be a typo. An id that is in use is accepted, even if the ring lacks it."""
    ring = current().services.issuer.pepper_ids()
    if pepper not in ring and not in_use:
        raise click.BadParameter(f"No pepper {pepper!r} in the ring, only {', '.join(ring)}.", param_hint="PEPPER")


def _require_not_current(pepper: str) -> None:
    if current().services.issuer.pepper_ids()[0] == pepper:
        raise click.ClickException(
            f"Pepper {pepper!r} is the current one: new keys are stored under it. First put another pepper at the "
            "front of KATAVEN_PEPPERS."
        )


def _in_use() -> tuple[dict[str, Counter[str]], list[str]]:
    """The number of usable keys by account and pepper, and the accounts whose database is unavailable."""
    from kataven.operations import peppers_in_use

    use = peppers_in_use.count(current().operator)
    return use.by_account, use.unreachable


def _not_counted(accounts: list[str]) -> str:
    return f"The databases of these accounts are unavailable, so their keys were not counted: {', '.join(accounts)}."
