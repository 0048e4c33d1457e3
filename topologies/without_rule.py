"""`wsgi:app` with one rule of the revocation protocol disabled: proves that a row counts late accepts.

gunicorn "topologies.without_rule:app('/path/to/rule')": the file names a rule of `bench.scenarios.disabled_rules`.
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask

import wsgi
from bench.scenarios.disabled_rules import disable_rules
from kataven.web.services import EXTENSION

RULES = ("evict", "epoch", "fill tokens", "lease", "notices", "other home")


def app(path: str) -> Flask:
    """The API and the Hub without the rule that the file `path` names."""
    application: Flask = wsgi.app
    disable_rules(Path(path), application.extensions[EXTENSION])
    return application
