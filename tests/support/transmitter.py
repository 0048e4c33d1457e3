"""A transmitter of security events: a WSGI server that delivers SETs by polling, as RFC 8936 describes."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

HOLD_SECONDS = 20.0
"""How long a request without `returnImmediately` waits for a SET."""


@dataclass
class RfcTransmitter:
    """Delivers each SET until it is acknowledged or refused (section 2.2). Thread-safe."""

    token: str | None = None
    undelivered: dict[str, str] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)
    errors: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    failures: list[tuple[str, list[tuple[str, str]], bytes]] = field(default_factory=list)
    """Responses that replace the next ones: status, headers, body."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    compresses: bool = False
    """Whether responses are compressed for clients that accept it."""
    closing: bool = False
    url: str = ""

    def offer(self, jti: str, token: str) -> None:
        """Deliver a SET."""
        with self.changed:
            self.undelivered[jti] = token
            self.changed.notify_all()

    def wait_for(self, condition: Any, seconds: float = 30) -> None:
        """Wait until `condition()` holds; checked at each request."""
        with self.changed:
            assert self.changed.wait_for(condition, seconds)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, headers, response = self._respond(environ, body)
        start_response(status, headers)
        return [response]

    def _respond(self, environ: dict[str, Any], body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
        kind = [("Content-Type", "application/json")]
        if environ["REQUEST_METHOD"] != "POST":
            return "405 Method Not Allowed", [("Allow", "POST")], b""
        if self.token is not None and environ.get("HTTP_AUTHORIZATION") != f"Bearer {self.token}":
            return "401 Unauthorized", [("WWW-Authenticate", "Bearer")], b""
        said = json.loads(body)
        if not _is_poll_request(said) or environ["CONTENT_TYPE"] != "application/json":
            return "400 Bad Request", kind, b"{}"
        if "setErrs" in said and "HTTP_CONTENT_LANGUAGE" not in environ:  # section 2.6
            return "400 Bad Request", kind, b"{}"
        with self.changed:
            self.requests.append(said)
            for jti in said.get("ack", []):
                if self.undelivered.pop(jti, None) is not None:
                    self.acknowledged.append(jti)
            for jti, error in said.get("setErrs", {}).items():
                self.undelivered.pop(jti, None)
                self.errors[jti] = error
            self.changed.notify_all()
            if self.failures:
                return self.failures.pop(0)
            most = said.get("maxEvents", 100)
            if most and not said.get("returnImmediately", False):
                self.changed.wait_for(lambda: self.undelivered or self.closing, HOLD_SECONDS)
            sets = dict(list(self.undelivered.items())[:most])
            found: dict[str, Any] = {"sets": sets}
            if len(self.undelivered) > len(sets):
                found["moreAvailable"] = True
        response = json.dumps(found).encode()
        if self.compresses and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
            return "200 OK", [*kind, ("Content-Encoding", "gzip")], gzip.compress(response)
        return "200 OK", kind, response


def _is_poll_request(said: Any) -> bool:
    """Section 2.2."""
    return (
        isinstance(said, dict)
        and isinstance(said.get("maxEvents", 0), int)
        and said.get("maxEvents", 0) >= 0
        and isinstance(said.get("returnImmediately", False), bool)
        and all(isinstance(jti, str) for jti in said.get("ack", []))
        and all({"err", "description"} >= set(error) >= {"err"} for error in said.get("setErrs", {}).values())
    )


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """Serves each request in a thread."""

    daemon_threads = True


class QuietHandler(WSGIRequestHandler):
    """Does not log requests."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass


@contextmanager
def transmitting(token: str | None = None) -> Iterator[RfcTransmitter]:
    """A transmitter on a free port."""
    transmitter = RfcTransmitter(token)
    with make_server("127.0.0.1", 0, transmitter, ThreadingServer, QuietHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        transmitter.url = f"http://127.0.0.1:{server.server_port}/events"
        try:
            yield transmitter
        finally:
            with transmitter.changed:
                transmitter.closing = True
                transmitter.changed.notify_all()
            server.shutdown()
