"""`flask accounts|servers|migrations|oidc|peppers|revocation|widget|dev …`: arguments in, tables out."""

from collections.abc import Sequence
from http import HTTPStatus

import click
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
from kataven.commands.local_tools import LocalTools
from kataven.commands.output import NotConfigured
from kataven.settings import Settings
from kataven.tenancy.programs import Programs

# The first two add their commands to those of accounts.
__all__ = ["account_dumps", "account_import", "install", "without_settings"]

DEFAULT_API_URL = "http://127.0.0.1:8000"
_NOT_OURS = ("limiter", "routes", "run", "shell")
"""Commands of Flask and of Flask-Limiter. They work and are not listed: the product is served by gunicorn."""


def install(app: Flask, settings: Settings) -> None:
    """Add the commands to an application; the development ones only where they belong."""
    LocalTools(Programs(settings.postgres_programs), settings.dump_dir).attach(app)
    has_secret = settings.hub_client_secret is not None
    issuer = oidc.group(settings.oidc_issuer, has_secret=has_secret, development=settings.development)
    _add(app, settings.api_url, issuer)
    if settings.development:
        from kataven.commands import dev  # production must not even import it

        app.cli.add_command(dev.group(settings.data_dir, settings.oidc_issuer))


def without_settings(problems: Sequence[str]) -> Flask:
    """An application whose commands can be read about, and say what is missing when they are run. It serves nothing."""
    app = Flask("kataven-api", static_folder=None)
    app.before_request(lambda: ("The configuration can't be used.\n", HTTPStatus.SERVICE_UNAVAILABLE))
    NotConfigured(tuple(problems)).attach(app)
    # Read about, never run: an issuer is no setting that has a default.
    _add(app, DEFAULT_API_URL, oidc.group("", has_secret=False, development=False))
    return app


def _add(app: Flask, api_url: str, issuer: click.Group) -> None:
    app.cli.add_command(accounts.group)
    app.cli.add_command(servers.group)
    app.cli.add_command(migrations.group)
    app.cli.add_command(issuer)
    app.cli.add_command(peppers.group)
    app.cli.add_command(widget.group)
    app.cli.add_command(revocation.group(api_url))
    context = click.get_current_context(silent=True)
    root = context.find_root().command if context is not None else None
    if isinstance(root, click.Group):
        for name in _NOT_OURS:
            if name in root.commands:
                root.commands[name].hidden = True
