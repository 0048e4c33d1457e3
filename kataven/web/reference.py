"""Serves the OpenAPI documents and the reference at `/docs`, which works offline and without JavaScript."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, current_app, render_template, request
from markupsafe import Markup

from kataven import __version__
from kataven.web import openapi
from kataven.web.access import PUBLIC
from kataven.web.conditional import tag_of
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
SESSION_PATH = "/docs/session"
"""The page of the Hub from which the script of the reference reads the session. The API doesn't have it."""
STATIC = Path(__file__).parent / "static"
_ASSETS: Final = {
    name: (STATIC / f"docs.{name.rpartition('.')[2]}").read_bytes() for name in ("style.css", "script.js")
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No inline script or style, nothing from another origin, and no HTML that a script assembles from strings."""
_RENDERED_EXTENSION = "kataven.reference.rendered"
_HUB_EXTENSION = "kataven.reference.hub"


class OpenApiDocumentView(View):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


def install(
    app: Flask, blueprints: tuple[ApiBlueprint, ...], server_url: str, hub_url: str = "", *, of_hub: bool = False
) -> None:
    """Serve the documents of `app`. Call it after every blueprint is registered. `server_url` is the public URL of
    the API. `of_hub`: whether the Hub serves the reference, so that its users can try operations there. Otherwise, the
    reference links to the one at `hub_url`."""
    app.extensions[_HUB_EXTENSION] = {"session_path": SESSION_PATH} if of_hub else {"hub_url": hub_url}
    app.extensions[_RENDERED_EXTENSION] = {}
    operations = openapi.operations_of(app)
    for extension, about in ((EXTENSION, openapi.CUSTOMERS), (OPERATORS_EXTENSION, openapi.OPERATORS)):
        # A tenth of the time that creating an app takes, so it is not spent where no document is read.
        app.extensions[extension] = cache(
            partial(openapi.document, about, operations, blueprints, __version__, server_url)
        )
    app.extensions[NEARBY_EXTENSION] = Nearby([*(operation.path for operation in operations), "/docs"])


def document_of(app: Flask, extension: str = EXTENSION) -> dict[str, Any]:
    """The OpenAPI document for customers, or the one of `OPERATORS_EXTENSION`. It is generated on first use."""
    found: dict[str, Any] = app.extensions[extension]()
    return found


def generate_documents(app: Flask) -> None:
    """Generate the documents now, so that the processes that are forked afterwards share them."""
    for extension in (EXTENSION, OPERATORS_EXTENSION):
        document_of(app, extension)


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
    from kataven.web.docs import page  # loads the Markdown parser, like `prose`; most workers serve no pages

    documents = (EXTENSION, OPERATORS_EXTENSION)
    return _page("reference", lambda: {"page": page.build([document_of(current_app, name) for name in documents])})


@blueprint.page("/docs/errors", access=PUBLIC, summary="Error codes")
def show_errors(context: RequestContext) -> Response:
    return _page("errors", lambda: {"kinds": PROBLEM_TYPES.values(), "explanations": _explanations()})


@blueprint.page("/docs/style.css", access=PUBLIC, summary="Stylesheet of the reference")
def show_style(context: RequestContext) -> Response:
    return _asset("style.css", "text/css")


@blueprint.page("/docs/script.js", access=PUBLIC, summary="Script of the reference")
def show_reference_script(context: RequestContext) -> Response:
    return _asset("script.js", "text/javascript")


def _explanations() -> dict[str, Markup]:
    from kataven.web.docs import prose

    return {code: prose.markdown(text, {}) for code, text in EXPLANATIONS.items()}


def _json(extension: str) -> Response:
    return write_json(document_of(current_app, extension), headers={"Access-Control-Allow-Origin": "*", **CACHEABLE})


def _page(name: str, content: Callable[[], dict[str, Any]]) -> Response:
    """A page of the reference. It is equal for all callers, so each process renders it once."""
    rendered: dict[str, str] = current_app.extensions[_RENDERED_EXTENSION]
    if name not in rendered:
        hub = current_app.extensions[_HUB_EXTENSION]
        rendered[name] = render_template(f"docs/{name}.html", page_name=name, asset=_asset_url, **hub, **content())
    response = Response(rendered[name], content_type="text/html; charset=utf-8", headers=CACHEABLE)
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.set_etag(tag_of(rendered[name]))
    return response


def _asset(name: str, kind: str) -> Response:
    response = Response(_ASSETS[name], content_type=f"{kind}; charset=utf-8", headers=CACHEABLE)
    response.set_etag(_digest(name))
    return response


def _asset_url(name: str) -> str:
    """The path of a file. The digest of its content is in the query, so that a release is not mixed with another."""
    return f"/docs/{name}?{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(_ASSETS[name]).hexdigest()[:12]
