"""HTTP/1.1 over asyncio, as little of it as a client needs that must not take the processor from what it measures."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

HOST = "127.0.0.1"
LATE_ADDRESS = "127.0.0.2"
"""Of the client that shows revoked keys."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Closed(Exception):
    """The server closed the connection before a whole answer was here, or it took no connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """A request as it goes over the wire; `body` is sent as JSON."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {"Host": "api", **headers}.items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def bearer(token: str, account: str | None = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}"}
    return headers if account is None else {**headers, "X-Account-ID": account}


class Connection:
    """One request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.open = True
        """False once the server has said that this was its last answer here."""

    @classmethod
    async def to(cls, port: int, source: str) -> Self:
        """Connect from the address `source`. Raises Closed."""
        try:
            return cls(*await asyncio.open_connection(HOST, port, local_addr=(source, 0), limit=1 << 20))
        except OSError as error:
            raise Closed from error

    async def ask(self, message: bytes, *, half_close: bool = False) -> Answer:
        """Send `message`, as the last one if `half_close`, and return its answer. Raises Closed."""
        self.send(message)
        if half_close:
            self._writer.write_eof()
        answer = await self.receive()
        self.open = self.open and not half_close
        return answer

    def send(self, message: bytes) -> None:
        # Not drained: an answer may come, and the connection close, before a body is through.
        self._writer.write(message)

    async def receive(self) -> Answer:
        """The next answer. Raises Closed."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            self.open = length is not None and not _CLOSE.search(head)
            body = await (self._reader.readexactly(int(length[1])) if length else self._reader.read())
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            self.open = False
            raise Closed from error
        return Answer(int(head[9:12]), body)

    def close(self) -> None:
        """Drop it, with what was not sent yet."""
        self.open = False
        self._writer.transport.abort()


class Pool:
    """At most `size` connections that are kept alive; a request that finds none idle waits for one."""

    def __init__(self, port: int, source: str, size: int) -> None:
        self._port, self._source = port, source
        self._idle: asyncio.Queue[Connection | None] = asyncio.Queue()
        for _ in range(size):
            self._idle.put_nowait(None)

    async def ask(self, message: bytes) -> Answer:
        """Send `message` on the connection that has been idle for longest. Raises Closed.

        As clients do, it asks once more where the server had closed the idle connection.
        """
        connection = await self._idle.get()
        try:
            if connection is not None:
                try:
                    return await connection.ask(message)
                except Closed:
                    connection.close()
            connection = await Connection.to(self._port, self._source)
            return await connection.ask(message)
        except BaseException:
            if connection is not None:
                connection.close()  # an answer may still come on it, to a request that was given up
            raise
        finally:
            self._idle.put_nowait(connection if connection is not None and connection.open else None)

    async def fill(self, message: bytes) -> None:
        """Open them all: as many requests at once as there are connections."""
        await asyncio.gather(*(self.ask(message) for _ in range(self._idle.qsize())))

    def close(self) -> None:
        """Close those that are idle."""
        while not self._idle.empty():
            if connection := self._idle.get_nowait():
                connection.close()
