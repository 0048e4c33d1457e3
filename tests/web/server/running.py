"""Starts `small.py` under gunicorn, and exchanges bytes with it."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.gunicorn import Gunicorn


def small(folder: Path, **environ: str) -> Gunicorn:
    """The small application, not started yet."""
    return Gunicorn(
        {"PYTHONPATH": str(Path(__file__).parents[3]), **environ},
        folder / "log",
        application="tests.web.server.small:app",
        configuration="tests/web/server/small_conf.py",
    )


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One response, by its Content-Length: status, headers, body."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65_536)
        assert part, f"the connection was closed after {received!r}"
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", "0")):
        part = connection.recv(65_536)
        assert part, "the connection was closed within an answer"
        body += part
    return int(lines[0].split(" ")[1]), headers, body


def rest(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def get(server: Gunicorn, path: str) -> bytes:
    """The body of a GET on its own connection."""
    return server.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()).partition(b"\r\n\r\n")[2]


def refused(server: Gunicorn) -> dict[str, int]:
    """How many connections the worker rejected, by reason."""
    counts: dict[str, int] = json.loads(get(server, "/refused"))
    return counts


@contextmanager
def open_connections(server: Gunicorn, count: int, first_bytes: bytes) -> Iterator[list[socket.socket]]:
    """N connections, each of which sends these bytes and then is silent."""
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(count)]
        if first_bytes:
            for connection in connections:
                connection.sendall(first_bytes)
        yield connections


def statuses(responses: bytes) -> list[int]:
    """The statuses of all responses in these bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", responses)]


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
