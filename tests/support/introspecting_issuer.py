"""An issuer with a discovery document and an introspection endpoint (RFC 7662), over HTTP."""

from __future__ import annotations

import json
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote_plus
from wsgiref.simple_server import make_server

from kataven.identity.client_assertion import ClientAuthentication
from kataven.identity.fetch import HttpFetcher
from kataven.people.introspection import Introspector
from tests.support.transmitter import QuietHandler, ThreadingServer

CLIENT_ID, SECRET = "introspector", "a secret: 100% + more"


@dataclass
class IntrospectingIssuer:
    """A discovery document and an introspection endpoint. `replies` replaces the response."""

    url: str = ""
    inactive: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    replies: tuple[str, bytes] | None = None
    compressed: bool = False
    """Whether the body of `replies` is compressed, whatever the client accepts."""
    held: threading.Event | None = None
    """The response waits for it."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].endswith("openid-configuration"):
            document = {"issuer": self.url, "introspection_endpoint": f"{self.url}/introspect"}
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(document).encode()]
        form = {
            name: values[0]
            for name, values in parse_qs(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()).items()
        }
        self.forms.append(form)
        self.asked.append(form["token"])
        if self.held is not None:
            self.held.wait(30)
        status, body = self.replies or self._respond(environ, form)
        encoding = [("Content-Encoding", "gzip")] if self.compressed else []
        start_response(status, [("Content-Type", "application/json"), *encoding])
        return [body]

    def _respond(self, environ: dict[str, Any], form: dict[str, str]) -> tuple[str, bytes]:
        scheme, _, pair = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme == "Basic":
            client, _, secret = urlsafe_b64decode(pair).decode().partition(":")
            if (unquote_plus(client), unquote_plus(secret)) != (CLIENT_ID, SECRET):
                return "401 Unauthorized", b'{"error":"invalid_client"}'
        elif "client_assertion" not in form:
            return "401 Unauthorized", b'{"error":"invalid_client"}'
        return "200 OK", json.dumps({"active": form["token"] not in self.inactive}).encode()


@contextmanager
def introspecting() -> Iterator[IntrospectingIssuer]:
    """An issuer on a free port."""
    issuer = IntrospectingIssuer()
    with make_server("127.0.0.1", 0, issuer, ThreadingServer, QuietHandler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield issuer
        server.shutdown()


def introspector_for(issuer: str, client: ClientAuthentication, timeout_seconds: float = 20) -> Introspector:
    return Introspector(
        issuer,
        client,
        HttpFetcher(),
        {"trust_env": False},
        timeout_seconds=timeout_seconds,
        allow_loopback_http=True,
    )
