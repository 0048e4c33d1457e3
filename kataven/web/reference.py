"""Serves `/v1/openapi.json` and the reference at `/docs`, which works offline and without JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, render_template

from kataven import __version__
from kataven.web import openapi
from kataven.web.access import PUBLIC
from kataven.web.explanations import EXPLANATIONS
from kataven.web.nearby import Nearby
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.problems import NEARBY_EXTENSION, PROBLEM_TYPES
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json

blueprint = ApiBlueprint("reference", __name__, "page", "This API reference in machine-readable form.")
blueprint.template_folder = "templates"

EXTENSION = "kataven.openapi"
CACHEABLE = {"Cache-Control": "public, max-age=300"}
"""Equal for all callers, and constant within a release."""
_STYLE = (Path(__file__).parent / "static" / "docs.css").read_bytes()


class OpenApiView(View):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def install(app: Flask, blueprints: tuple[ApiBlueprint, ...]) -> None:
    """Generate the document of `app`. Call it after every blueprint is registered."""
    operations = openapi.operations_of(app)
    app.extensions[EXTENSION] = openapi.document(operations, blueprints, __version__)
    app.extensions[NEARBY_EXTENSION] = Nearby(operation.path for operation in operations)


@blueprint.operation(
    "GET",
    "/v1/openapi.json",
    access=PUBLIC,
    summary="Retrieve the OpenAPI document",
    response=ResponseSpec(200, "The OpenAPI document.", OpenApiView),
)
def read_openapi(context: RequestContext) -> Response:
    """Returns the OpenAPI 3.1 document, which is generated from the declarations that validate requests."""
    return write_json(_document(), headers={"Access-Control-Allow-Origin": "*", **CACHEABLE})


@blueprint.page("/docs", access=PUBLIC, summary="API reference")
def show_reference(context: RequestContext) -> Response:
    document = _document()
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return _page("docs/reference.html", document=document, operations=operations)


@blueprint.page("/docs/errors", access=PUBLIC, summary="Error codes")
def show_errors(context: RequestContext) -> Response:
    return _page("docs/errors.html", kinds=PROBLEM_TYPES.values(), explanations=EXPLANATIONS)


@blueprint.page("/docs/style.css", access=PUBLIC, summary="Stylesheet of the reference")
def show_style(context: RequestContext) -> Response:
    return Response(_STYLE, content_type="text/css; charset=utf-8", headers=CACHEABLE)


def _document() -> dict[str, Any]:
    found: dict[str, Any] = current_app.extensions[EXTENSION]
    return found


def _page(template: str, **context: Any) -> Response:
    response = Response(
        render_template(template, **context), content_type="text/html; charset=utf-8", headers=CACHEABLE
    )
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return response
