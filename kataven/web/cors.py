"""Sets the CORS headers (Fetch, section 3.3) of the widget's public endpoints, including error responses, so that a
page can show the reason.

CORS is not a security boundary: it only restricts browsers. The widget key's `domain_allowlist` is the boundary, and no
response depends on cookies, which are neither sent nor read.
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
"""Excludes `/v1/widget/auth/user-token`: it requires an API key, which must never be sent from a browser."""

MAX_AGE_SECONDS = 7_200
"""Chromium's upper limit for caching a preflight response."""

ALLOWED_HEADERS = "Content-Type, traceparent, tracestate"
"""Pages with browser tracing add the trace headers. Without these names, their preflight requests fail."""


def install(app: Flask) -> None:
    """Add the headers to every response on these paths, including errors."""
    app.after_request(allow_other_origins)


def allow_other_origins(response: Response) -> Response:
    if request.path not in PATHS:
        return response
    # `*` rather than the request's origin: with `*`, browsers don't send cookies.
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-ID"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.vary.add("Origin")
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
        response.headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
    return response
