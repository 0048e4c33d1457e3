"""`/v1/openapi.json` and `/docs`: the reference, made from the declarations. It works offline, without JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, render_template

from kataven import __version__
from kataven.web import openapi
from kataven.web.access import PUBLIC
from kataven.web.explanations import EXPLANATIONS
from kataven.web.nearby import Nearby
from kataven.web.operation import Answer, ApiBlueprint
from kataven.web.problems import KINDS, NEARBY_EXTENSION
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json

blueprint = ApiBlueprint("reference", __name__, "page", "This reference, for machines.")
blueprint.template_folder = "templates"

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


def install(app: Flask, rooms: tuple[ApiBlueprint, ...]) -> None:
    """Publish what `app` declares. Call it when every room is registered."""
    operations = openapi.operations_of(app)
    app.extensions[EXTENSION] = openapi.document(operations, rooms, __version__)
    app.extensions[NEARBY_EXTENSION] = Nearby(operation.path for operation in operations)


@blueprint.operation(
    "GET",
    "/v1/openapi.json",
    access=PUBLIC,
    summary="The OpenAPI document",
    answer=Answer(200, "This document.", OpenApiView),
)
def read_openapi(context: RequestContext) -> Response:
    """OpenAPI 3.1, made from the declarations that validate."""
    return write_json(_document(), headers={"Access-Control-Allow-Origin": "*", **KEPT})


@blueprint.page("/docs", access=PUBLIC, summary="The reference, to read")
def show_reference(context: RequestContext) -> Response:
    document = _document()
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return _page("docs/reference.html", document=document, operations=operations)


@blueprint.page("/docs/errors", access=PUBLIC, summary="Every error code")
def show_errors(context: RequestContext) -> Response:
    return _page("docs/errors.html", kinds=KINDS.values(), explanations=EXPLANATIONS)


@blueprint.page("/docs/style.css", access=PUBLIC, summary="How the reference looks")
def show_style(context: RequestContext) -> Response:
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
