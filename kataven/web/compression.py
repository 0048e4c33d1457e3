"""Compresses large responses with gzip if the client accepts it.

Only responses to GET and HEAD: secrets (a new key, a visitor's tokens) are returned by POST only, so that no compressed
response has a secret whose length could be measured (BREACH).
"""

from __future__ import annotations

import gzip

from flask import Response, request

from kataven.web.conditional import GZIP_SUFFIX
from kataven.web.problems import MAX_PREFERENCES_LENGTH

MIN_BYTES = 1_400
"""Smaller responses fit into one packet uncompressed."""

LEVEL = 5
_TYPES = ("application/json", "text/", "image/svg+xml")


def compress(response: Response) -> Response:
    """Compress `response` if it is compressible, the client accepts gzip, and the result is shorter."""
    if not _is_compressible(response):
        return response
    if "Vary" in response.headers:
        response.vary.add("Accept-Encoding")
    else:
        response.headers["Vary"] = "Accept-Encoding"
    if not _accepts_gzip():
        return response
    # Without a timestamp, so that equal bodies have equal bytes, as the strong ETag requires.
    body = gzip.compress(response.get_data(), LEVEL, mtime=0)
    if len(body) >= len(response.get_data()):
        return response
    tag, weak = response.get_etag()
    response.set_data(body)
    response.headers["Content-Encoding"] = "gzip"
    if tag is not None:
        response.set_etag(tag + GZIP_SUFFIX, bool(weak))
    return response


def _is_compressible(response: Response) -> bool:
    return (
        request.method in {"GET", "HEAD"}
        and response.status_code == 200
        and not response.is_streamed
        and not response.direct_passthrough
        and "Content-Encoding" not in response.headers
        and (response.mimetype or "").startswith(_TYPES)
        and len(response.get_data()) >= MIN_BYTES
    )


def _accepts_gzip() -> bool:
    """RFC 9110, section 12.5.3. Without the header any coding is acceptable; the uncompressed body is the safe
    choice."""
    if not 0 < len(request.headers.get("Accept-Encoding", "")) <= MAX_PREFERENCES_LENGTH:
        return False
    stated = {name.lower(): quality for name, quality in request.accept_encodings}
    gzip_quality = stated.get("gzip", stated.get("*", 0))
    return gzip_quality > 0 and gzip_quality >= stated.get("identity", 0)
