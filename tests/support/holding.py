"""`wsgi:api` with a route that never responds, for requests that are in flight until their worker exits.

gunicorn tests.support.holding:api
"""

from __future__ import annotations

import threading

from flask import Response

from kataven.web.access import READ
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.request_context import RequestContext
from kataven.web.schema import write_json
from wsgi import api

__all__ = ["api"]

blueprint = ApiBlueprint("held", __name__, "held", "A blueprint for tests.")


@blueprint.operation("GET", "/held", access=READ, summary="Hold", response=ResponseSpec(200, "Never."))
def hold(context: RequestContext) -> Response:
    threading.Event().wait()
    return write_json({})


api.register_blueprint(blueprint)
