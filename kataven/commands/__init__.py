"""`flask accounts|servers|migrations|oidc|peppers|revocation|widget|dev …`: parse arguments, run operations, print."""

from collections.abc import Sequence
from http import HTTPStatus

import click
from flask import Flask

from kataven import assembly
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

# The first two modules add their commands to the group `accounts`.
__all__ = ["account_dumps", "account_import", "install", "without_settings"]

DEFAULT_API_URL = "http://127.0.0.1:8000"
_LIBRARY_COMMANDS = ("limiter", "routes", "run", "shell")
"""Commands of Flask and Flask-Limiter. They work but are not listed, because gunicorn serves the product."""


def install(app: Flask, settings: Settings) -> None:
    """Add the commands to an application. The development commands are added only in development."""
    LocalTools(Programs(settings.postgres_programs), settings.dump_dir).attach(app)
    has_secret = settings.hub_client_secret is not None
    issuer = oidc.group(
        settings.oidc_issuer,
        has_secret=has_secret,
        development=settings.development,
        connection=assembly.issuer_connection(settings),
    )
    _add(app, settings.api_url, issuer)
    if settings.development:
        from kataven.commands import dev  # must not be imported in production

        app.cli.add_command(dev.group(settings.data_dir, settings.oidc_issuer))


def without_settings(problems: Sequence[str]) -> Flask:
    """An application whose commands have help texts, and report the configuration problems when they are run.

    It serves no request.
    """
    app = Flask("kataven-api", static_folder=None)
    app.before_request(lambda: ("The configuration is invalid.\n", HTTPStatus.SERVICE_UNAVAILABLE))
    NotConfigured(tuple(problems)).attach(app)
    # The issuer has no default; without settings the command only prints its help.
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
        for name in _LIBRARY_COMMANDS:
            if name in root.commands:
                root.commands[name].hidden = True
