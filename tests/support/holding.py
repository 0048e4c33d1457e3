"""`wsgi:api` with a route that never answers, for requests that are in flight until their worker ends.

gunicorn tests.support.holding:api
"""

from __future__ import annotations

import threading

from flask import Response

from kataven.web.access import READ
from kataven.web.call import Call
from kataven.web.operation import Answer, Room
from kataven.web.schema import write_json
from wsgi import api

__all__ = ["api"]

room = Room("held", __name__, "held", "A room for tests.")


@room.operation("GET", "/held", access=READ, summary="Hold", answer=Answer(200, "Never."))
def hold(call: Call) -> Response:
    threading.Event().wait()
    return write_json({})


api.register_blueprint(room)
