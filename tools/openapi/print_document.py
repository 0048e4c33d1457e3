"""Prints the OpenAPI document that `/v1/openapi.json` serves. Requires no server and no configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flask import Flask

sys.path.insert(0, str(Path(__file__).parents[2]))

from app import API_BLUEPRINTS
from kataven.web import reference


def openapi_document() -> dict[str, Any]:
    """The document of all API blueprints."""
    app = Flask("reference", static_folder=None)
    for blueprint in API_BLUEPRINTS:
        app.register_blueprint(blueprint)
    reference.install(app, API_BLUEPRINTS)
    document: dict[str, Any] = app.extensions[reference.EXTENSION]
    return document


if __name__ == "__main__":
    json.dump(openapi_document(), sys.stdout, indent=2)
