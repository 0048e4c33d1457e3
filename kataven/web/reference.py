"""`/v1/openapi.json` and `/docs`: the reference, made from the declarations. It works offline, without JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, render_template

from kataven import __version__
from kataven.web import openapi
from kataven.web.access import PUBLIC
from kataven.web.call import Call
from kataven.web.explanations import EXPLANATIONS
from kataven.web.nearby import Nearby
from kataven.web.operation import Answer, Room
from kataven.web.problems import KINDS, NEARBY_EXTENSION
from kataven.web.schema import View, write_json

room = Room("reference", __name__, "page", "This reference, for machines.")
room.template_folder = "templates"

EXTENSION = "kataven.openapi"
KEPT = {"Cache-Control": "public, max-age=300"}
"""The same for everybody, and another one only with another release."""
_STYLE = (Path(__file__).parent / "static" / "docs.css").read_bytes()


class OpenApiView(View):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def install(app: Flask, rooms: tuple[Room, ...]) -> None:
    """Publish what `app` declares. Call it when every room is registered."""
    operations = openapi.operations_of(app)
    app.extensions[EXTENSION] = openapi.document(operations, rooms, __version__)
    app.extensions[NEARBY_EXTENSION] = Nearby(operation.path for operation in operations)


@room.operation(
    "GET",
    "/v1/openapi.json",
    access=PUBLIC,
    summary="The OpenAPI document",
    answer=Answer(200, "This document.", OpenApiView),
)
def read_openapi(call: Call) -> Response:
    """OpenAPI 3.1, made from the declarations that validate."""
    return write_json(_document(), headers={"Access-Control-Allow-Origin": "*", **KEPT})


@room.page("/docs", access=PUBLIC, summary="The reference, to read")
def show_reference(call: Call) -> Response:
    document = _document()
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return _page("docs/reference.html", document=document, operations=operations)


@room.page("/docs/errors", access=PUBLIC, summary="Every error code")
def show_errors(call: Call) -> Response:
    return _page("docs/errors.html", kinds=KINDS.values(), explanations=EXPLANATIONS)


@room.page("/docs/style.css", access=PUBLIC, summary="How the reference looks")
def show_style(call: Call) -> Response:
    return Response(_STYLE, content_type="text/css; charset=utf-8", headers=KEPT)


def _document() -> dict[str, Any]:
    found: dict[str, Any] = current_app.extensions[EXTENSION]
    return found


def _page(template: str, **context: Any) -> Response:
    response = Response(render_template(template, **context), content_type="text/html; charset=utf-8", headers=KEPT)
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return response
