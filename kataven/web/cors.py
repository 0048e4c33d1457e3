"""Which answers scripts of other origins may read (Fetch, section 3.3): those of the widget's public endpoints, all of
them, refusals too, so that a page can say why.

CORS is permissive here and no boundary: it protects nobody from a caller that is no browser. The boundary is the widget
key's own list of domains, and no answer depends on cookies, which are neither sent nor read.
"""

from __future__ import annotations

from flask import Flask, Response, request

PATHS = frozenset(
    {
        "/v1/widget/config",
        "/v1/widget/auth/guest",
        "/v1/widget/auth/exchange",
        "/v1/widget/auth/refresh",
        "/v1/widget/jwks.json",
    }
)
"""`/v1/widget/auth/user-token` is not among them: it takes a secret key, which no browser must ever hold."""

MAX_AGE_SECONDS = 7_200
"""As long as Chromium remembers a preflight at most."""

ALLOWED_HEADERS = "Content-Type, traceparent, tracestate"
"""Those of traces are added by pages that are traced in the browser; without them their preflights fail."""


def install(app: Flask) -> None:
    """Add the headers to every answer on these paths, whoever made it."""
    app.after_request(allow_other_origins)


def allow_other_origins(response: Response) -> Response:
    if request.path not in PATHS:
        return response
    # Not the origin that asked but all of them: with `*` a browser refuses to send cookies along.
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-ID"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.vary.add("Origin")
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
    return response
