"""gzip for large answers, where the client takes it.

Only answers to GET and HEAD: what is secret (a new key, a visitor's tokens) is answered to POST alone, so nothing that
is compressed holds a secret whose length could be measured from outside (BREACH).
"""

from __future__ import annotations

import gzip

from flask import Response, request

from kataven.web.conditional import GZIP_SUFFIX
from kataven.web.problems import MAX_PREFERENCES_LENGTH

MIN_BYTES = 1_400
"""What is smaller travels in one packet anyway."""

LEVEL = 5
_TYPES = ("application/json", "text/")


def compress(response: Response) -> Response:
    """Compressed, if that is possible, wanted and shorter."""
    if not _is_compressible(response):
        return response
    if "Vary" in response.headers:
        response.vary.add("Accept-Encoding")
    else:
        response.headers["Vary"] = "Accept-Encoding"
    if not _is_wanted():
        return response
    # The time stays out, so that the same body is the same bytes, as its tag promises.
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


def _is_wanted() -> bool:
    """RFC 9110, section 12.5.3. Without the header anything goes, and the plain body is what nobody misreads."""
    if not 0 < len(request.headers.get("Accept-Encoding", "")) <= MAX_PREFERENCES_LENGTH:
        return False
    stated = {name.lower(): quality for name, quality in request.accept_encodings}
    gzip_quality = stated.get("gzip", stated.get("*", 0))
    return gzip_quality > 0 and gzip_quality >= stated.get("identity", 0)
