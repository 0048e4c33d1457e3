"""Prints the OpenAPI document that `/v1/openapi.json` serves. Requires no server and no configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flask import Flask

sys.path.insert(0, str(Path(__file__).parents[2]))

from app import API_BLUEPRINTS
from kataven.web import reference

app = Flask("reference", static_folder=None)
for blueprint in API_BLUEPRINTS:
    app.register_blueprint(blueprint)
reference.install(app, API_BLUEPRINTS)
json.dump(app.extensions[reference.EXTENSION], sys.stdout, indent=2)
