"""The request body and the response as the application sees them: a body with typed errors, and a response with a
correct `Connection` header."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from gunicorn import SERVER, util
from gunicorn.http import wsgi
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.wsgi import HEADER_VALUE_RE

from kataven.web.server.errors import BodyError, BrokenBody

_DISCARD_BYTES = 65_536
_INTERPRETED_NAMES = frozenset({"content-length", "upgrade", *util.hop_headers})
"""gunicorn acts on these headers, or removes them."""
_ACCEPTED_NAMES: set[str] = set()
"""Names of response headers that gunicorn has validated. Only the values differ between responses."""
_MAX_NAMES = 256


class RequestBody:
    """`wsgi.input`. Raises BodyError where gunicorn's reader raises its own errors, or ends silently."""

    def __init__(self, request: Any) -> None:
        self._body = request.body
        reader = self._body.reader
        self._missing = reader.length if isinstance(reader, LengthReader) else 0

    def read(self, size: int | None = None) -> bytes:
        return self._take(self._body.read, size)

    def readline(self, size: int | None = None) -> bytes:
        return self._take(self._body.readline, size)

    def readlines(self, _hint: int | None = None) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _take(self, read: Any, size: int | None) -> bytes:
        try:
            data: bytes = read(size)
        except BodyError:
            raise
        except (ParseException, NoMoreData, OSError) as error:
            raise BrokenBody(type(error).__name__) from None
        self._missing -= len(data)
        if not data and size != 0 and self._missing > 0:  # the client has closed its side
            self._body.failed = True
            raise BrokenBody("NoMoreData")
        return data


class Response(wsgi.Response):  # type: ignore[misc]  # gunicorn has no annotations
    """Sends head and body in one write where possible, and sets `Connection: close` if the connection will be
    closed."""

    def __init__(self, req: Any, sock: Any, cfg: Any) -> None:
        super().__init__(req, sock, cfg)
        self._head: bytes | None = None

    def process_headers(self, headers: Any) -> None:
        """The same as gunicorn's, with the names that it has accepted before."""
        for name, value in headers:
            if name in _ACCEPTED_NAMES and isinstance(value, str) and HEADER_VALUE_RE.fullmatch(value):
                self.headers.append((name, value.strip(" \t")))
                continue
            super().process_headers(((name, value),))
            if len(_ACCEPTED_NAMES) < _MAX_NAMES and name.lower() not in _INTERPRETED_NAMES:
                _ACCEPTED_NAMES.add(name)

    def default_headers(self) -> list[str]:
        if self.upgrade:
            default: list[str] = super().default_headers()
            return default
        major, minor = self.req.version
        connection = "close" if self.should_close() else "keep-alive"
        lines = [f"HTTP/{major}.{minor} {self.status}\r\n{_server_and_date()}Connection: {connection}\r\n"]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        return lines

    def send_headers(self) -> None:
        if self.headers_sent or self._head is not None:
            return
        if self._has_unread_body():
            # RFC 9112, section 9.3: the start of the next request is unknown, so the connection can't be reused.
            self.force_close()
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self._head = util.to_bytestring("".join(lines), "latin-1")

    def close(self) -> None:
        self.send_headers()
        if self.chunked:
            self._send(b"0\r\n\r\n")
        elif self._head is not None:
            self._send(b"")

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def _send(self, data: bytes) -> None:
        head, self._head = self._head, None
        self.headers_sent = True
        self.sock.sendall(data if head is None else head + data)

    def _has_unread_body(self) -> bool:
        """Whether an unread body hides the start of the next request. A body that is in memory is discarded first."""
        body = self.req.body
        if body is None:  # a plain head
            return False
        if self.sock.whole and not body.failed:
            try:
                while body.read(_DISCARD_BYTES):
                    pass
            except (BodyError, ParseException, OSError):
                return True
        if body.failed:
            return True
        reader = body.reader
        return reader.parser is not None if isinstance(reader, ChunkedReader) else bool(reader.length)


_date_lines = (0, "")


def _server_and_date() -> str:
    """The headers `Server` and `Date`, formatted once per second."""
    global _date_lines
    now = int(time.time())
    second, lines = _date_lines
    if second != now:
        lines = f"Server: {SERVER}\r\nDate: {util.http_date(now)}\r\n"
        _date_lines = now, lines
    return lines
