"""Finds where a request without `Authorization` has its key instead, so that the error can name the place.

Only names are read, never values. A key in a URL is not accepted: proxies and browsers record URLs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HEADERS = ("X-API-Key", "Api-Key", "ApiKey", "X-Auth-Token", "X-Access-Token", "X-Kataven-Key")
_IN_ENVIRON = {f"HTTP_{name.upper().replace('-', '_')}": name for name in HEADERS}
_PARAMETER = re.compile(r"(?:^|&)(api_?key|access_token|auth_token|token|key)=")


def misplaced_key(environ: Mapping[str, Any], query: str = "") -> str | None:
    """The header or the query parameter that other APIs use for a key; None if the request has neither, or if it has
    `Authorization`. `environ` is the request's WSGI environment."""
    if "HTTP_AUTHORIZATION" in environ:
        return None
    for key, name in _IN_ENVIRON.items():
        if key in environ:
            return f"`{name}` header"
    found = _PARAMETER.search(query)
    return None if found is None else f"query parameter `{found[1]}`"
