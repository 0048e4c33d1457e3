"""Finds where a request without `Authorization` has its key instead, so that the error can name the place.

Only names are read, never values. A key in a URL is not accepted: proxies and browsers record URLs.
"""

from __future__ import annotations

import re

from werkzeug.datastructures import Headers

HEADERS = ("X-API-Key", "Api-Key", "ApiKey", "X-Auth-Token", "X-Access-Token", "X-Kataven-Key")
_PARAMETER = re.compile(rb"(?:^|&)(api_?key|access_token|auth_token|token|key)=")


def misplaced_key(headers: Headers, query: bytes = b"") -> str | None:
    """The header or the query parameter that other APIs use for a key; None if the request has neither, or if it has
    `Authorization`."""
    if "Authorization" in headers:
        return None
    for name in HEADERS:
        if name in headers:
            return f"`{name}` header"
    found = _PARAMETER.search(query)
    return None if found is None else f"query parameter `{found[1].decode()}`"
