"""Serves the OpenAPI documents and the reference at `/docs`, which works offline and without JavaScript."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, render_template, request

from kataven import __version__
from kataven.web import openapi
from kataven.web.access import PUBLIC
from kataven.web.explanations import EXPLANATIONS
from kataven.web.nearby import Nearby
from kataven.web.operation import ApiBlueprint, Audience, ResponseSpec
from kataven.web.problems import MAX_PREFERENCES_LENGTH, NEARBY_EXTENSION, PROBLEM_TYPES
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json

blueprint = ApiBlueprint(
    "reference", __name__, "page", "The API reference in machine-readable form.", Audience.OPERATORS
)
blueprint.template_folder = "templates"

EXTENSION = "kataven.openapi"
OPERATORS_EXTENSION = "kataven.openapi.operators"
OPERATORS_PATH = "/v1/openapi-operators.json"
ENTRY_POINT = {
    "name": "Kataven Hub API",
    "version": __version__,
    "reference": "/docs",
    "error_codes": "/docs/errors",
    "openapi": "/v1/openapi.json",
    "health": "/healthz",
}
"""The response at `/`."""
CACHEABLE = {"Cache-Control": "public, max-age=300"}
"""Equal for all callers, and constant within a release."""
_STYLE = (Path(__file__).parent / "static" / "docs.css").read_bytes()


class OpenApiDocumentView(View):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def install(app: Flask, blueprints: tuple[ApiBlueprint, ...], server_url: str) -> None:
    """Generate the documents of `app`. Call it after every blueprint is registered. `server_url` is the public URL of
    the API."""
    operations = openapi.operations_of(app)
    for extension, about in ((EXTENSION, openapi.CUSTOMERS), (OPERATORS_EXTENSION, openapi.OPERATORS)):
        app.extensions[extension] = openapi.document(about, operations, blueprints, __version__, server_url)
    app.extensions[NEARBY_EXTENSION] = Nearby([*(operation.path for operation in operations), "/docs"])


@blueprint.operation(
    "GET",
    "/v1/openapi.json",
    access=PUBLIC,
    summary="Retrieve the customers' OpenAPI document",
    response=ResponseSpec(200, "The OpenAPI document.", OpenApiDocumentView),
)
def read_open_api_document(context: RequestContext) -> Response:
    """Describes the operations for customers. It is generated from the declarations that validate requests."""
    return _json(EXTENSION)


@blueprint.operation(
    "GET",
    OPERATORS_PATH,
    access=PUBLIC,
    summary="Retrieve the operators' OpenAPI document",
    response=ResponseSpec(200, "The OpenAPI document.", OpenApiDocumentView),
)
def read_operators_open_api_document(context: RequestContext) -> Response:
    """Describes the health checks, the search for accounts, and the documents."""
    return _json(OPERATORS_EXTENSION)


@blueprint.page("/", access=PUBLIC, summary="Entry point")
def show_entry_point(context: RequestContext) -> Response:
    """Sends browsers to the reference. Other clients receive the paths as JSON."""
    accept = request.headers.get("Accept", "")
    if "text/html" in accept and len(accept) <= MAX_PREFERENCES_LENGTH:
        response = Response(status=302, headers={"Location": "/docs"})
    else:
        response = write_json(ENTRY_POINT)
    response.vary.add("Accept")
    return response


@blueprint.page("/docs", access=PUBLIC, summary="API reference")
def show_reference(context: RequestContext) -> Response:
    documents = [_document(EXTENSION), _document(OPERATORS_EXTENSION)]
    operations = [
        (method.upper(), path, operation)
        for document in documents
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return _page(
        "docs/reference.html",
        info=documents[0]["info"],
        tags=[tag for document in documents for tag in document["tags"]],
        operations=operations,
        schemas={name: schema for document in documents for name, schema in document["components"]["schemas"].items()},
    )


@blueprint.page("/docs/errors", access=PUBLIC, summary="Error codes")
def show_errors(context: RequestContext) -> Response:
    return _page("docs/errors.html", kinds=PROBLEM_TYPES.values(), explanations=EXPLANATIONS)


@blueprint.page("/docs/style.css", access=PUBLIC, summary="Stylesheet of the reference")
def show_style(context: RequestContext) -> Response:
    return Response(_STYLE, content_type="text/css; charset=utf-8", headers=CACHEABLE)


def _document(extension: str) -> dict[str, Any]:
    found: dict[str, Any] = current_app.extensions[extension]
    return found


def _json(extension: str) -> Response:
    return write_json(_document(extension), headers={"Access-Control-Allow-Origin": "*", **CACHEABLE})


def _page(template: str, **context: Any) -> Response:
    response = Response(
        render_template(template, **context), content_type="text/html; charset=utf-8", headers=CACHEABLE
    )
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return response
