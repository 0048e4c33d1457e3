"""Adds the commands to the Flask applications, so that `flask accounts …` and all others work like `kataven …`."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import click
from flask import Flask

from kataven.commands.context import EXTENSION, CommandContext
from kataven.commands.tree import COMMANDS, DEVELOPMENT
from kataven.settings import Settings, SettingsError
from kataven.web.services import EXTENSION as SERVICES

_LIBRARY_COMMANDS = ("limiter", "routes", "run", "shell")
"""Commands of Flask and Flask-Limiter. They work but are not listed, because gunicorn serves the product."""
_PROGRAM_ONLY = {"completion"}


def install(app: Flask, settings: Settings) -> None:
    """Add the commands to an application. The development commands are added only in development."""
    app.extensions[EXTENSION] = CommandContext(lambda: settings, lambda _: app.extensions[SERVICES], "flask")
    _add(app, development=settings.development)


def without_settings(problems: Sequence[str]) -> Flask:
    """An application whose commands have help texts, and report the configuration problems when they are run.

    It serves no request.
    """

    def fail() -> Settings:
        raise SettingsError(list(problems))

    app = Flask("kataven-api", static_folder=None)
    app.before_request(lambda: ("The configuration is invalid.\n", HTTPStatus.SERVICE_UNAVAILABLE))
    app.extensions[EXTENSION] = CommandContext(fail, lambda _: app.extensions[SERVICES], "flask")
    _add(app, development=False)
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
