"""`kataven status`: the state of the installation on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kataven import __version__
from kataven.commands.context import current
from kataven.commands.output import as_json as json_option
from kataven.commands.output import print_json, printable, report_errors

if TYPE_CHECKING:
    from kataven.operations.overview import Overview


@click.command("status")
@json_option
@report_errors
def command(as_json: bool) -> None:
    """Show the state of the installation on one screen.

    Shows the release, the accounts, the database servers, the workers, the last round of the canary, the last
    revocation by an operator, and unfinished work. `kataven doctor` checks the installation in detail.
    """
    from kataven.operations import overview

    shown = fields(overview.read(current().operator))
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        lines = _lines(value)
        click.echo(f"{name.replace('_', ' '):<16}  {printable(lines[0])}")
        for line in lines[1:]:
            click.echo(f"{'':<16}  {printable(line)}")


def fields(overview: Overview) -> dict[str, Any]:
    workers = overview.workers
    return {
        "release": __version__,
        "system_schema": overview.system_revision,
        "accounts": dict(overview.accounts),
        "revisions": {str(revision): count for revision, count in overview.revisions.items()},
        "servers": [
            {"server": name, "accounts": count, "draining": draining} for name, count, draining in overview.servers
        ],
        "workers": None if workers is None else len(workers),
        "hosts": None if workers is None else sorted({member.host for member in workers}),
        "last_canary": overview.last_canary,
        "last_revocation": overview.last_revocation,
        "intents": overview.intents,
        "migration_run": overview.migration_run,
    }


def _words(name: str, value: Any) -> str:
    """`2 accounts`, `server default`, `draining`."""
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{value} {name}" if isinstance(value, int | float) else f"{name} {value}"


def _lines(value: Any) -> list[str]:
    if value is None or value in ([], {}):
        return ["-"]
    if isinstance(value, dict):
        return [", ".join(_words(name, inner) for name, inner in value.items())]
    if isinstance(value, list):
        return [one if isinstance(one, str) else _lines(one)[0] for one in value]
    return [str(value)]
