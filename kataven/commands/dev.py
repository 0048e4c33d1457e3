"""`kataven dev …`: tools for development. Not available in production."""

from __future__ import annotations

import click

from kataven.commands.context import current
from kataven.commands.options import WholeNumber
from kataven.commands.output import as_json, print_fields, report_errors
from kataven.identity.principal import Role

group = click.Group("dev", help="Tools for development.")


@group.command("token")
@click.option("--account", required=True, help="Account to create the token for.")
@click.option(
    "--role",
    type=click.Choice([str(role) for role in Role]),
    default=str(Role.OWNER),
    show_default=True,
    help="Role of the user in the account.",
)
@click.option("--subject", help="User: alice, bob, charlie, olivia, or any other name.")
@click.option("--ttl-seconds", type=WholeNumber(), default=3600, show_default=True, help="Lifetime in seconds.")
@as_json
@report_errors
def token(account: str, role: str, subject: str | None, ttl_seconds: int, as_json: bool) -> None:
    """Print a JWT of the development issuer, as a user gets it by signing in."""
    from kataven.dev import issuer  # must not be imported in production
    from kataven.identity.credential import OPERATORS_ACCOUNT
    from kataven.system.errors import NoSuchAccount

    settings = current().settings
    if not settings.development:
        raise click.ClickException("This command requires KATAVEN_ENV=development.")
    folder = settings.data_dir / "issuer"
    if not folder.is_dir():
        raise click.ClickException(f"No development issuer in {settings.data_dir}. Start one: make run")
    if account != OPERATORS_ACCOUNT and current().services.directory.read(account) is None:
        raise NoSuchAccount(account)
    signed = issuer.sign(folder, settings.oidc_issuer, account, Role(role), subject=subject, ttl_seconds=ttl_seconds)
    if as_json:
        print_fields({"token": signed, "account": account, "expires_in": ttl_seconds}, as_json=True)
    else:
        click.echo(signed)
