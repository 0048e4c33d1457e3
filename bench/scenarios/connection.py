"""HTTP over one persistent connection, which stays with the worker that accepted it and has little overhead."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kataven.web.observe import MEASURE_HEADER, WORKER_HEADER

TIMEOUT_SECONDS = 30.0
"""How long a response may take before the run is aborted."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WORKER = re.compile(rb"\r\n%s: *(\S+)" % WORKER_HEADER.encode(), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response."""

    status: int
    worker: str
    """The worker that responded, by its own id."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, headers: Mapping[str, str], body: Any = None) -> bytes:
    """The bytes of a request; `body` is sent as JSON. The request asks for the id of the worker."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: api", f"{MEASURE_HEADER}: 1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Connection:
    """Sends one request at a time. Raises OSError if the server closes the connection, TimeoutError otherwise."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, message: bytes) -> Response:
        self.send(message)
        return self.receive()

    def send(self, message: bytes) -> None:
        self._socket.sendall(message)

    def receive(self) -> Response:
        """The complete response to the last request."""
        received = b""
        while (head_end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head, body = received[:head_end], received[head_end + 4 :]
        length = _LENGTH.search(head)
        while length is not None and len(body) < int(length[1]):
            body += self._more()
        worker = _WORKER.search(head)
        return Response(int(head[9:12]), worker[1].decode() if worker else "", body)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _more(self) -> bytes:
        received = self._socket.recv(65_536)
        if not received:
            raise ConnectionError("the server closed the connection")
        return received
