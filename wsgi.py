"""The WSGI objects: `wsgi:api`, `wsgi:hub`, and `wsgi:app`, which is both, told apart by host.

Each is built when it is first asked for, so that a service which runs the API never builds the Hub.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

import app as factory
from kataven import commands, settings

if TYPE_CHECKING:
    from flask import Flask

_BUILDERS = {"api": factory.create_api, "hub": factory.create_hub, "app": factory.create_app}


def __getattr__(name: str) -> Flask:
    if name not in _BUILDERS:
        raise AttributeError(name)
    try:
        built = _BUILDERS[name](settings.load(settings.development_environ(os.environ)))
    except settings.SettingsError as error:
        if _is_only_looked_up():
            return commands.without_settings(error.problems)
        sys.exit("\n".join(["The configuration can't be used:", *(f"  {problem}" for problem in error.problems)]))
    globals()[name] = built
    return built


def _is_only_looked_up() -> bool:
    """Whether this is `flask`, which wants to know the commands and serves nothing: `--help` needs no settings."""
    context = click.get_current_context(silent=True)
    return context is not None and context.parent is None
