"""`flask accounts|servers|migrations|oidc|peppers|revocation|widget|dev …`: arguments in, tables out."""

from flask import Flask

from kataven.commands import (
    account_dumps,
    account_import,
    accounts,
    migrations,
    oidc,
    peppers,
    revocation,
    servers,
    widget,
)
from kataven.commands.office import Tools
from kataven.settings import Settings
from kataven.tenancy.programs import Programs

__all__ = ["account_dumps", "account_import", "install"]  # the first two add their commands to those of accounts


def install(app: Flask, settings: Settings) -> None:
    """Add the commands to an application; the development ones only where they belong."""
    Tools(Programs(settings.postgres_programs), settings.dump_dir).attach(app)
    app.cli.add_command(accounts.group)
    app.cli.add_command(servers.group)
    app.cli.add_command(migrations.group)
    has_secret = settings.hub_client_secret is not None
    app.cli.add_command(oidc.group(settings.oidc_issuer, has_secret=has_secret, development=settings.development))
    app.cli.add_command(peppers.group)
    app.cli.add_command(widget.group)
    app.cli.add_command(revocation.group(settings.api_url))
    if settings.development:
        from kataven.commands import dev  # production must not even import it

        app.cli.add_command(dev.group(settings.data_dir, settings.oidc_issuer))
