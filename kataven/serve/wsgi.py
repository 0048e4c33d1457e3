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

from kataven import settings

if TYPE_CHECKING:
    from flask import Flask

_BUILDERS = {"api": "create_api", "hub": "create_hub", "app": "create_app"}


def __getattr__(name: str) -> Flask:
    if name not in _BUILDERS:
        raise AttributeError(name)
    try:
        with _garbage_collection_paused():
            from kataven import application

            built: Flask = getattr(application, _BUILDERS[name])(
                settings.load(settings.development_environ(os.environ))
            )
    except settings.SettingsError as error:
        if _is_command_lookup():
            from kataven.commands import flask_commands

            return flask_commands.without_settings(error.problems)
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
    """Whether `flask` only looks up its commands: `--help` needs no settings."""
    context = click.get_current_context(silent=True)
    return context is not None and context.parent is None
