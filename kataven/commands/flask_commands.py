"""Adds the commands to the Flask applications, so that `flask accounts …` and all others work like `kataven …`."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import click
from flask import Flask

from kataven.commands.context import EXTENSION, CommandContext, from_environment
from kataven.commands.tree import COMMANDS, DEVELOPMENT

if TYPE_CHECKING:
    from kataven.settings import Settings

_LIBRARY_COMMANDS = ("limiter", "routes", "run", "shell")
"""Commands of Flask and Flask-Limiter. They work but are not listed, because gunicorn serves the product."""
_PROGRAM_ONLY = {"completion"}


def install(app: Flask, settings: Settings) -> None:
    """Add the commands to an application. The development commands are added only in development."""
    app.extensions[EXTENSION] = CommandContext(lambda: settings, lambda _: app.extensions["kataven"], "flask")
    _add(app, development=settings.development)


def without_app(*, development: bool, context: CommandContext | None = None) -> Flask:
    """An application that has the commands and serves no request, so that a command doesn't wait for the API and the
    Hub to be created. By default, the settings are read when a command needs them, as by `kataven`."""
    app = Flask("kataven-api", static_folder=None)
    app.before_request(lambda: ("This application only has commands.\n", HTTPStatus.SERVICE_UNAVAILABLE))
    app.extensions[EXTENSION] = context or from_environment("flask")
    _add(app, development=development)
    return app


def _add(app: Flask, *, development: bool) -> None:
    for name, command in {**COMMANDS, **(DEVELOPMENT if development else {})}.items():
        if name not in _PROGRAM_ONLY:
            app.cli.add_command(command.load(), name)
    context = click.get_current_context(silent=True)
    root = context.find_root().command if context is not None else None
    if isinstance(root, click.Group):
        for name in _LIBRARY_COMMANDS:
            if name in root.commands:
                root.commands[name].hidden = True
