"""What HTTP asks of every answer, whatever the route: compression, conditions, `OPTIONS`, and word of old paths."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Flask, Response, request

from kataven.web.compression import compress
from kataven.web.conditional import not_modified
from kataven.web.paths import canonical_instead
from kataven.web.services import services

ALIASES_DEPRECATED_AT = datetime(2026, 11, 1, tzinfo=UTC)
PATCH_TYPES = "application/json, application/merge-patch+json"


def install(app: Flask) -> None:
    """Add them to every answer of `app`, before its line is written to the log."""
    # Flask runs these from the last to the first.
    app.after_request(name_the_methods)
    app.after_request(deprecate_aliases)
    app.after_request(not_modified)
    app.after_request(compress)


def name_the_methods(response: Response) -> Response:
    """`OPTIONS` has nothing to say but its headers: `Allow`, and `Accept-Patch` where there is a PATCH (RFC 5789)."""
    if request.method == "OPTIONS" and response.status_code == 200:
        response.headers.remove("Content-Type")
        allowed = sorted(response.allow)
        response.headers["Allow"] = ", ".join(allowed)
        if "PATCH" in allowed:
            response.headers["Accept-Patch"] = PATCH_TYPES
    return response


def deprecate_aliases(response: Response) -> Response:
    """An answer at an alias says since when there is a better path (RFC 9745), and which (RFC 6596)."""
    path = canonical_instead()
    if path is not None and request.url_rule is not None:
        response.headers["Deprecation"] = f"@{int(ALIASES_DEPRECATED_AT.timestamp())}"
        response.headers.add("Link", f'<{services().widget.public_url}{path}>; rel="canonical"')
    return response
