"""Kataven inside your own Flask application.

    from kataven.flask import Kataven, public, reading, requires

    kataven = Kataven(app)

    @app.get("/notes")
    @requires(keys=True, roles=("owner", "admin", "member"))
    def list_notes():
        with reading() as session:  # the database of the caller's account
            ...

Each request passes the pipeline of the API: the same credentials, limits and problem responses, in the same order.
"""

from kataven.flask.extension import Kataven, context, reading, writing
from kataven.web.declarations import KEYS_ONLY, MANAGE, READ, WRITE, UndeclaredRoutes, public, requires
from kataven.web.membership import StartedBeforeFork

__all__ = [
    "KEYS_ONLY",
    "MANAGE",
    "READ",
    "WRITE",
    "Kataven",
    "StartedBeforeFork",
    "UndeclaredRoutes",
    "context",
    "public",
    "reading",
    "requires",
    "writing",
]
