"""Headers that every answer of every surface carries, so that browsers read it as what it is and stay with https."""

from __future__ import annotations

from flask import Flask, Response

HSTS = "max-age=63072000; includeSubDomains"
"""Two years (RFC 6797)."""


def install(app: Flask, url: str) -> None:
    """Add them to every answer of `app`, errors included. `url` is where browsers find it, as configured."""
    headers = [("X-Content-Type-Options", "nosniff")]
    if url.startswith("https://"):  # over http the header is ignored, and a development machine has no https
        headers.append(("Strict-Transport-Security", HSTS))

    def harden(response: Response) -> Response:
        for name, value in headers:
            response.headers[name] = value
        return response

    app.after_request(harden)
