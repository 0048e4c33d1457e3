"""An issuer behind a private certificate authority, and a proxy that is the only way to a host name."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.certificates import authority
from tests.support.jose import Signer, ec_signer

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class TlsIssuer:
    """A running issuer with discovery, a key set and a token endpoint that refuses every code."""

    url: str
    port: int
    ca: Path
    signer: Signer
    requests: list[str] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that don't trust the certificate abort the handshake, as intended."""


@contextmanager
def tls_issuer(folder: Path, name: str = "localhost") -> Iterator[TlsIssuer]:
    """An issuer on a loopback port, with a certificate for `name`."""
    files = authority(folder).issue(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    signer = ec_signer()
    documents: dict[str, dict[str, Any]] = {}
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"GET {self.path}")
            self._send(200 if self.path in documents else 404, documents.get(self.path, {}))

        def do_POST(self) -> None:
            requests.append(f"POST {self.path}")
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send(400, {"error": "invalid_grant"})

        def _send(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not to stderr."""

    server = _Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    url = f"https://{name}:{server.server_address[1]}"
    documents["/.well-known/openid-configuration"] = {
        "issuer": url,
        "jwks_uri": f"{url}/keys",
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
    }
    documents["/keys"] = {"keys": [signer.jwk()]}
    with _serving(server):
        yield TlsIssuer(url, server.server_address[1], files.authority, signer, requests)


@dataclass(frozen=True)
class ConnectProxy:
    """A running HTTP proxy that accepts CONNECT (RFC 9110, section 9.3.6) with a user name and a password."""

    port: int
    targets: list[str] = field(default_factory=list)
    """The targets of the accepted requests."""

    def url(self, password: str) -> str:
        return f"http://hub:{password}@127.0.0.1:{self.port}"


@contextmanager
def connect_proxy(password: str, forward_to: int) -> Iterator[ConnectProxy]:
    """A proxy that connects every target to the loopback port `forward_to`."""
    expected = "Basic " + base64.b64encode(f"hub:{password}".encode()).decode()
    targets: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            if self.headers.get("Proxy-Authorization") != expected:
                self.send_response(407)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            targets.append(self.path)
            with socket.create_connection(("127.0.0.1", forward_to)) as far:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=_copy, args=(far, self.connection), daemon=True)
                back.start()
                _copy(self.connection, far)
                back.join()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Not to stderr."""

    server = _Server(("127.0.0.1", 0), Handler)
    with _serving(server):
        yield ConnectProxy(server.server_address[1], targets)


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
