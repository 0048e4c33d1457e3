"""Decides which URLs may name the issuer and its keys. Settings use it, so it loads no HTTP client."""

from __future__ import annotations

from urllib.parse import urlsplit

from kataven.loopback import is_loopback


def is_trustworthy_url(url: str, *, allow_loopback_http: bool) -> bool:
    """Whether keys may be fetched from this URL: https, or http on a loopback address if that is allowed."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises ValueError if it is not a number
    except ValueError:
        return False
    # With `@`, a backslash or a space, two URL parsers may find two different hosts.
    if not host or not url.isascii() or not url.isprintable() or any(sign in url for sign in "@\\ #"):
        return False
    # This process resolves the host, so a name under localhost may be the address of another machine.
    local = allow_loopback_http and is_loopback(host, subdomains=False)
    return parts.scheme == "https" or (local and parts.scheme == "http")
