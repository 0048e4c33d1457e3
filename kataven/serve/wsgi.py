"""The WSGI objects `api`, `hub`, and `app`, which serves both and routes by host name.

gunicorn kataven.serve.wsgi:api     in a checkout also: gunicorn wsgi:api
flask --app kataven.serve.wsgi      in a checkout also: flask

Each is built on first access, so that a service that runs the API never builds the Hub.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from kataven import application, settings
from kataven.commands import flask_commands

if TYPE_CHECKING:
    from flask import Flask

_BUILDERS = {"api": application.create_api, "hub": application.create_hub, "app": application.create_app}


def __getattr__(name: str) -> Flask:
    if name not in _BUILDERS:
        raise AttributeError(name)
    try:
        built = _BUILDERS[name](settings.load(settings.development_environ(os.environ)))
    except settings.SettingsError as error:
        if _is_command_lookup():
            return flask_commands.without_settings(error.problems)
        sys.exit("\n".join(["The configuration is invalid:", *(f"  {problem}" for problem in error.problems)]))
    globals()[name] = built
    return built


def _is_command_lookup() -> bool:
    """Whether `flask` only looks up its commands: `--help` needs no settings."""
    context = click.get_current_context(silent=True)
    return context is not None and context.parent is None
