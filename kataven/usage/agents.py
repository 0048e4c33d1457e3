"""The family of a user agent, such as `curl`: without its version, and never the header itself."""

from __future__ import annotations

import re
from functools import lru_cache

MAX_READ = 300
NONE, OTHER = "none", "other"

_BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
# No digits and no underscore, so that it can't be a key.
_PRODUCT = re.compile(r"([A-Za-z][A-Za-z.-]{0,29})(?:[/ ;(]|$)")


@lru_cache(maxsize=1024)
def family_of(header: str) -> str:
    """`curl/8.5.0` is `curl`, and a browser's header is `Chrome`. `other` if it names no product."""
    if not header:
        return NONE
    if header.startswith("Mozilla/"):
        return next((name for mark, name in _BROWSERS if mark in header), "browser")
    product = _PRODUCT.match(header)
    return OTHER if product is None else product[1]
