"""`/widget.js`: the script that web pages embed."""

from __future__ import annotations

from flask import Response, request

from kataven.web.access import PUBLIC
from kataven.web.operation import ApiBlueprint
from kataven.web.request_context import RequestContext
from kataven.widget.embed import SCRIPT_PATH, compressed_script, script

blueprint = ApiBlueprint("widget-script", __name__, "script", "The widget's script.")

MAX_AGE_SECONDS = 300


@blueprint.page(SCRIPT_PATH, access=PUBLIC, summary="The script that pages embed")
def show_script(context: RequestContext) -> Response:
    compressed = request.accept_encodings.quality("gzip") > 0
    found = compressed_script() if compressed else script()
    response = Response(found.body, content_type="text/javascript; charset=utf-8")
    if compressed:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(found.etag)
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_SECONDS}, stale-while-revalidate=86400"
    response.vary.add("Accept-Encoding")
    response.headers["Access-Control-Allow-Origin"] = "*"  # required by pages that use `integrity`
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.make_conditional(request)
    return response
