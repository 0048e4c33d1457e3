"""HTTP behaviour of every route: compression, conditional requests, `OPTIONS`, and deprecation of aliases."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import RequestRedirect

from kataven.web.compression import compress
from kataven.web.conditional import not_modified
from kataven.web.paths import canonical_path_if_alias
from kataven.web.services import services

ALIASES_DEPRECATED_AT = datetime(2026, 11, 1, tzinfo=UTC)
PATCH_TYPES = "application/json, application/merge-patch+json"


def install(app: Flask) -> None:
    """Apply the conventions to every response of `app`, before its access log line is written."""
    app.before_request(reject_redirects)
    # Flask runs these in reverse order of registration.
    app.after_request(list_methods)
    app.after_request(deprecate_aliases)
    app.after_request(not_modified)
    app.after_request(compress)


def reject_redirects() -> None:
    """Return 404 where the router would redirect, such as from `//` to `/`: its redirects repeat the `Host` header,
    which a client can forge."""
    if isinstance(request.routing_exception, RequestRedirect):
        request.routing_exception = NotFound()


def list_methods(response: Response) -> Response:
    """Set `Allow`, and `Accept-Patch` (RFC 5789) if the path supports PATCH, on responses to `OPTIONS`."""
    if request.method == "OPTIONS" and response.status_code == 200:
        response.headers.remove("Content-Type")
        allowed = sorted(response.allow)
        response.headers["Allow"] = ", ".join(allowed)
        if "PATCH" in allowed:
            response.headers["Accept-Patch"] = PATCH_TYPES
    return response


def deprecate_aliases(response: Response) -> Response:
    """Set `Deprecation` (RFC 9745) and a link to the canonical path (RFC 6596) on responses at an alias."""
    path = canonical_path_if_alias()
    if path is not None and request.url_rule is not None:
        response.headers["Deprecation"] = f"@{int(ALIASES_DEPRECATED_AT.timestamp())}"
        response.headers.add("Link", f'<{services().widget.public_url}{path}>; rel="canonical"')
    return response
