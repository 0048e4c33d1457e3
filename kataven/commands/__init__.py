"""`flask accounts|servers|migrations|peppers|revocation|dev …`: arguments in, tables out."""

from flask import Flask

from kataven.commands import accounts, migrations, peppers, revocation, servers
from kataven.settings import Settings


def install(app: Flask, settings: Settings) -> None:
    """Add the commands to an application; the development ones only where they belong."""
    app.cli.add_command(accounts.group)
    app.cli.add_command(servers.group)
    app.cli.add_command(migrations.group)
    app.cli.add_command(peppers.group)
    app.cli.add_command(revocation.group(settings.api_url))
    if settings.development:
        from kataven.commands import dev  # production must not even import it

        app.cli.add_command(dev.group(settings.data_dir, settings.oidc_issuer))
