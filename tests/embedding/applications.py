"""Applications of others that embed Kataven, with the same routes, and a client for each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import FastAPI, Request
from flask import Flask, g

from kataven.account.errors import NotFound
from kataven.asgi import KatavenMiddleware, context_of
from kataven.flask import Kataven, context
from kataven.settings import Settings
from kataven.web.declarations import MANAGE, READ, WRITE, public, requires


def flask_app(settings: Settings, *, strict: bool = True) -> Flask:
    """A Flask application with a route for each kind of access."""
    app = Flask("shop", static_folder=None)
    kataven = Kataven(settings=settings, strict=strict)
    kataven.init_app(app)

    @app.get("/v1/agents")
    @requires(READ)
    def list_things() -> dict[str, Any]:
        return {"principal": g.principal.label, "account": context().account.account}

    @app.get("/v1/agents/<uuid:thing_id>")
    @requires(READ)
    def read_thing(thing_id: UUID) -> dict[str, Any]:
        raise NotFound("thing")

    @app.post("/v1/agents")
    @requires(WRITE)
    def add_thing() -> dict[str, Any]:
        return {}

    @app.get("/v1/scoped")
    @requires(READ, scope="notes:read")
    def read_scoped() -> dict[str, Any]:
        return {}

    @app.post("/v1/api-keys")
    @requires(MANAGE)
    def manage_things() -> dict[str, Any]:
        return {}

    @app.get("/open")
    @public
    def show_open() -> dict[str, Any]:
        return {"principal": g.principal}

    @app.get("/forgotten")
    def forgotten() -> dict[str, Any]:
        raise AssertionError("a view without a declaration ran")

    return app


def fastapi_app(settings: Settings, *, strict: bool = True, **options: Any) -> FastAPI:
    """A FastAPI application with the same routes."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(KatavenMiddleware, settings=settings, strict=strict, **options)

    @app.get("/v1/agents")
    @requires(READ)
    def list_things(request: Request) -> dict[str, Any]:
        return {"principal": request.state.principal.label, "account": context_of(request).account.account}

    @app.get("/v1/agents/{thing_id}")
    @requires(READ)
    async def read_thing(thing_id: UUID) -> dict[str, Any]:
        raise NotFound("thing")

    @app.post("/v1/agents")
    @requires(WRITE)
    async def add_thing() -> dict[str, Any]:
        return {}

    @app.get("/v1/scoped")
    @requires(READ, scope="notes:read")
    def read_scoped() -> dict[str, Any]:
        return {}

    @app.post("/v1/api-keys")
    @requires(MANAGE)
    async def manage_things() -> dict[str, Any]:
        return {}

    @app.get("/open")
    @public
    async def show_open(request: Request) -> dict[str, Any]:
        return {"principal": request.state.principal}

    return app
