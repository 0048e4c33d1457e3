"""Prints the OpenAPI document that `/v1/openapi.json` serves, or with `operators` the one for operators.

Requires no server and no configuration. The server's URL is the default of `KATAVEN_PUBLIC_URL`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flask import Flask

sys.path.insert(0, str(Path(__file__).parents[2]))

from app import API_BLUEPRINTS
from kataven.web import reference

PUBLIC_URL = "https://api.kataven.ai"


def openapi_document(extension: str = reference.EXTENSION) -> dict[str, Any]:
    """A document of all API blueprints."""
    app = Flask("reference", static_folder=None)
    for blueprint in API_BLUEPRINTS:
        app.register_blueprint(blueprint)
    reference.install(app, API_BLUEPRINTS, PUBLIC_URL)
    return reference.document_of(app, extension)


if __name__ == "__main__":
    of_operators = sys.argv[1:] == ["operators"]
    json.dump(
        openapi_document(reference.OPERATORS_EXTENSION if of_operators else reference.EXTENSION), sys.stdout, indent=2
    )
