"""Sets the security headers of every response: no content sniffing, and HTTPS only."""

from __future__ import annotations

from flask import Flask, Response

HSTS = "max-age=63072000; includeSubDomains"
"""Two years (RFC 6797)."""


def headers(url: str) -> list[tuple[str, str]]:
    """The headers of an app whose configured public URL is `url`."""
    found = [("X-Content-Type-Options", "nosniff")]
    if url.startswith("https://"):  # browsers ignore the header over HTTP, and development uses HTTP
        found.append(("Strict-Transport-Security", HSTS))
    return found


def install(app: Flask, url: str) -> None:
    """Add the headers to every response of `app`, including errors."""
    constant = headers(url)

    def harden(response: Response) -> Response:
        for name, value in constant:
            response.headers[name] = value
        return response

    app.after_request(harden)
