"""A minimal HTTP/1.1 client over asyncio, which uses little CPU time next to the server that it measures."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

HOST = "127.0.0.1"
LATE_ADDRESS = "127.0.0.2"
"""The address of the client that sends revoked keys."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Closed(Exception):
    """The server closed the connection before a complete response, or refused it."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """Encode a request. `body` is sent as JSON."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {"Host": "api", **headers}.items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def bearer(token: str, account: str | None = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}"}
    return headers if account is None else {**headers, "X-Account-ID": account}


class Connection:
    """A connection for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.open = True
        """False after a response with `Connection: close`."""

    @classmethod
    async def to(cls, port: int, source: str) -> Self:
        """Connect from the address `source`. Raises Closed."""
        try:
            return cls(*await asyncio.open_connection(HOST, port, local_addr=(source, 0), limit=1 << 20))
        except OSError as error:
            raise Closed from error

    async def send_request(self, message: bytes, *, half_close: bool = False) -> Response:
        """Send `message` and return the response. `half_close` ends the sending side. Raises Closed."""
        self.send(message)
        if half_close:
            self._writer.write_eof()
        response = await self.receive()
        self.open = self.open and not half_close
        return response

    def send(self, message: bytes) -> None:
        # Not drained: the response can arrive, and the connection close, before the body is sent.
        self._writer.write(message)

    async def receive(self) -> Response:
        """The next response. Raises Closed."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            self.open = length is not None and not _CLOSE.search(head)
            body = await (self._reader.readexactly(int(length[1])) if length else self._reader.read())
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            self.open = False
            raise Closed from error
        return Response(int(head[9:12]), body)

    def close(self) -> None:
        """Abort the connection and discard unsent data."""
        self.open = False
        self._writer.transport.abort()


class Pool:
    """At most `size` keep-alive connections. A request waits if none is idle."""

    def __init__(self, port: int, source: str, size: int) -> None:
        self._port, self._source = port, source
        self._idle: asyncio.Queue[Connection | None] = asyncio.Queue()
        for _ in range(size):
            self._idle.put_nowait(None)

    async def send_request(self, message: bytes) -> Response:
        """Send `message` on the connection that has been idle for longest. Raises Closed.

        If the server had closed the idle connection, the request is sent again, as other clients do.
        """
        connection = await self._idle.get()
        try:
            if connection is not None:
                try:
                    return await connection.send_request(message)
                except Closed:
                    connection.close()
            connection = await Connection.to(self._port, self._source)
            return await connection.send_request(message)
        except BaseException:
            if connection is not None:
                connection.close()  # a late response to a request that timed out could arrive on it
            raise
        finally:
            self._idle.put_nowait(connection if connection is not None and connection.open else None)

    async def fill(self, message: bytes) -> None:
        """Open all connections by sending one request on each."""
        await asyncio.gather(*(self.send_request(message) for _ in range(self._idle.qsize())))

    def close(self) -> None:
        """Close idle connections."""
        while not self._idle.empty():
            if connection := self._idle.get_nowait():
                connection.close()
