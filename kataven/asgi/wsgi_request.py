"""Translates the head of an ASGI request into a WSGI environment, and a response back, so that one pipeline serves both
kinds of applications."""

from __future__ import annotations

import io
import sys
from typing import Any

from flask import Response

from kataven.asgi.selection import Scope, Send


def environ_of(scope: Scope) -> dict[str, Any]:
    """The WSGI environment of a request, without its body."""
    client = scope.get("client")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        # PEP 3333: one character per byte
        "PATH_INFO": str(scope["path"]).encode(errors="replace").decode("latin-1"),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "REMOTE_ADDR": client[0] if client else "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        # A name with an underscore would be read as the name with a dash. `Host` selects nothing here.
        if b"_" in name or name.lower() in {b"host", b"content-length", b"content-type"}:
            continue
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def headers_of(response: Response) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]


async def send_response(response: Response, send: Send) -> None:
    """Send a complete response."""
    body = response.get_data()
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers_of(response)})
    await send({"type": "http.response.body", "body": body, "more_body": False})
