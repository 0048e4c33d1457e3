"""The WSGI objects: `wsgi:api`, `wsgi:hub`, and `wsgi:app`, which is both, told apart by host.

Each is built when it is first asked for, so that a service which runs the API never builds the Hub.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import app as factory
from kataven import settings

if TYPE_CHECKING:
    from flask import Flask

_BUILDERS = {"api": factory.create_api, "hub": factory.create_hub, "app": factory.create_app}


def __getattr__(name: str) -> Flask:
    if name not in _BUILDERS:
        raise AttributeError(name)
    try:
        built = _BUILDERS[name](settings.load(settings.development_environ(os.environ)))
    except settings.SettingsError as error:
        sys.exit("\n".join(["The configuration can't be used:", *(f"  {problem}" for problem in error.problems)]))
    globals()[name] = built
    return built
