"""Kataven inside your own ASGI application, such as FastAPI or Starlette.

    from kataven.asgi import KatavenMiddleware, context_of, requires

    app = FastAPI()
    app.add_middleware(KatavenMiddleware, public_paths=("/docs", "/openapi.json"))

    @app.get("/notes")
    @requires(keys=True, roles=("owner", "admin", "member"))
    def list_notes(request: Request):
        with context_of(request).reading() as session:  # the database of the caller's account
            ...

Each request passes the pipeline of the API: the same credentials, limits and problem responses, in the same order.
"""

from kataven.asgi.middleware import KatavenMiddleware, context_of
from kataven.web.declarations import KEYS_ONLY, MANAGE, READ, WRITE, UndeclaredRoutes, public, requires
from kataven.web.membership import StartedBeforeFork

__all__ = [
    "KEYS_ONLY",
    "MANAGE",
    "READ",
    "WRITE",
    "KatavenMiddleware",
    "StartedBeforeFork",
    "UndeclaredRoutes",
    "context_of",
    "public",
    "requires",
]
