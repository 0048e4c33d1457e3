"""Print the OpenAPI document, as `/v1/openapi.json` serves it. Needs no server and no configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flask import Flask

sys.path.insert(0, str(Path(__file__).parents[2]))

from app import API_ROOMS
from kataven.web import reference

app = Flask("reference", static_folder=None)
for room in API_ROOMS:
    app.register_blueprint(room)
reference.install(app, API_ROOMS)
json.dump(app.extensions[reference.EXTENSION], sys.stdout, indent=2)
