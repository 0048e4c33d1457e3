"""The WSGI objects `api`, `hub`, and `app`, which serves both and routes by host name.

gunicorn kataven.serve.wsgi:api     in a checkout also: gunicorn wsgi:api
flask --app kataven.serve.wsgi      in a checkout also: flask

Each is built on first access, so that a service that runs the API never builds the Hub.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kataven.development_environ import development_environ

if TYPE_CHECKING:
    from flask import Flask

_BUILDERS = {"api": "create_api", "hub": "create_hub", "app": "create_app"}


def __getattr__(name: str) -> Flask:
    if name not in _BUILDERS:
        raise AttributeError(name)
    environ = development_environ(os.environ)
    # Blueprints of other packages can have commands.
    if _is_command_lookup() and not environ.get("KATAVEN_BLUEPRINTS"):
        from kataven.commands import flask_commands, garbage

        garbage.collect_rarely()
        return flask_commands.without_app(development=environ.get("KATAVEN_ENV") == "development")
    with _garbage_collection_paused():
        from kataven import application, settings

        try:
            built: Flask = getattr(application, _BUILDERS[name])(settings.load(environ))
        except settings.SettingsError as error:
            sys.exit("\n".join(["The configuration is invalid:", *(f"  {problem}" for problem in error.problems)]))
    globals()[name] = built
    # Otherwise the interpreter searches all objects for garbage when the process ends, for a quarter of the time that
    # it took to create them.
    atexit.register(gc.freeze)
    return built


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Imports and the application create objects that stay. Searching them for garbage takes a sixth of the start."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _is_command_lookup() -> bool:
    """Whether `flask` only looks up its commands. They need no application, except Flask's own, such as `flask routes`,
    which load it after the lookup."""
    context = click.get_current_context(silent=True)
    if context is None or context.parent is not None:
        return False
    from flask.cli import FlaskGroup  # other programs don't need it

    return isinstance(context.command, FlaskGroup)  # a server can be a click command, too
