"""`flask dev …`: tools for development. Not available in production."""

from __future__ import annotations

from pathlib import Path

import click
from flask.cli import AppGroup

from kataven.commands.options import WholeNumber
from kataven.commands.output import report_errors
from kataven.dev import issuer
from kataven.dev.personas import PERSONAS
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.identity.principal import Role
from kataven.system.errors import NoSuchAccount
from kataven.web.services import services


def group(data_dir: Path, issuer_url: str) -> AppGroup:
    """The commands, for the development issuer whose keys are in `data_dir`."""
    dev = AppGroup("dev", help="Tools for development.")

    @dev.command("token")
    @click.option("--account", required=True, help="Account to create the token for.")
    @click.option(
        "--role",
        type=click.Choice([str(role) for role in Role]),
        default=str(Role.OWNER),
        show_default=True,
        help="Role of the user in the account.",
    )
    @click.option(
        "--subject", help="User: " + ", ".join(person.subject for person in PERSONAS) + ", or any other name."
    )
    @click.option("--ttl-seconds", type=WholeNumber(), default=3600, show_default=True, help="Lifetime in seconds.")
    @report_errors
    def token(account: str, role: str, subject: str | None, ttl_seconds: int) -> None:
        """Print a JWT of the development issuer, as a user gets it by signing in."""
        folder = data_dir / "issuer"
        if not folder.is_dir():
            raise click.ClickException(f"No development issuer in {data_dir}. Start one: make run")
        if account != OPERATORS_ACCOUNT and services().directory.read(account) is None:
            raise NoSuchAccount(account)
        click.echo(issuer.sign(folder, issuer_url, account, Role(role), subject=subject, ttl_seconds=ttl_seconds))

    return dev
