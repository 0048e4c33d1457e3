"""Web pages of any host over TLS, as a customer serves them: with a strict policy and a nonce for scripts."""

from __future__ import annotations

import secrets
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from kataven.authservice.tls import TlsFiles

Page = Callable[[str], str]
"""Returns the page for a nonce."""


class Pages:
    """A server on a loopback port. `pages` has the page of each path, for every host."""

    def __init__(self, certificate: TlsFiles, connect_to: Callable[[], str]) -> None:
        self.pages: dict[str, Page] = {}
        handler = type("Handler", (_Handler,), {"site": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._connect_to = connect_to

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def policy(self, nonce: str) -> str:
        """The strictest policy that allows a script."""
        return (
            f"default-src 'none'; script-src 'nonce-{nonce}'; connect-src {self._connect_to()}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Pages

    def do_GET(self) -> None:
        page = self.site.pages.get(self.path.partition("?")[0])
        nonce = secrets.token_urlsafe(16)
        body = b"" if page is None else f"<!doctype html><html lang=en><title>Page</title>{page(nonce)}".encode()
        self.send_response(200 if page else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", self.site.policy(nonce))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the standard library
        """Nothing."""
