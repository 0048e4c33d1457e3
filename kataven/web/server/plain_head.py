"""Parses the usual request head in a fifth of the time that gunicorn's parser takes. All others are left to gunicorn.

A plain head is one of a request without a body, in HTTP/1.1, of at most 8 KiB, with each header once. It accepts less
than gunicorn: `tests/web/server/test_plain_head.py` compares the WSGI environments of both, also for generated heads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from gunicorn.config import Config
from gunicorn.http.wsgi import base_environ

from kataven.web.server.connection import ClientConnection
from kataven.web.server.logger import ERRORS

MAX_BYTES = 8190
"""A longer head is left to gunicorn, as is one that is longer than a configured limit for a line."""
_USUAL_NAMES = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection", "Content-Type"),
    *("Cookie", "DNT", "Forwarded", "Host", "If-Match", "If-Modified-Since", "If-None-Match", "Origin", "Pragma"),
    *("Priority", "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Traceparent"),
    *("Tracestate", "Upgrade-Insecure-Requests", "User-Agent", "Via", "X-Account-ID", "X-Forwarded-For"),
    *("X-Forwarded-Host", "X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Uri", "X-Original-Method"),
    *("X-Original-URI", "X-Real-IP", "X-Request-ID"),
)
"""Names that are looked up instead of checked. A name of a client is never added: it can be a credential."""

_TEXT = re.compile(rb"[\t\x20-\x7e\x80-\xff\r\n]*")
_REQUEST_LINE = re.compile(r"(GET|HEAD|DELETE|OPTIONS) (/(?!/)[!\"$->@-~]*)(\?[!\"$-~]*)? HTTP/1\.1")
"""The target has no fragment, and can't be mistaken for a host."""
_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")
"""A token (RFC 9110, section 5.6.2) without `_`, which would have the same name in the environment as `-`."""
_FRAMING = frozenset({"CONTENT-LENGTH", "TRANSFER-ENCODING", "EXPECT", "UPGRADE", "TRAILER", "TE"})
"""Headers that decide where the request ends, or which protocol follows."""


class EmptyBody:
    """`wsgi.input` of a request without a body."""

    def read(self, size: int | None = None) -> bytes:
        return b""

    def readline(self, size: int | None = None) -> bytes:
        return b""

    def readlines(self, _hint: int | None = None) -> list[bytes]:
        return []

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


class PlainRequest:
    """What gunicorn's response and hooks need of a request."""

    body = None
    """None: it has none, so none of it can be unread."""
    version = (1, 1)

    def __init__(self, method: str, uri: str, path: str, query: str, headers: list[tuple[str, str]]) -> None:
        self.method = method
        self.uri = uri
        self.path = path
        self.query = query
        self.headers = headers

    def should_close(self) -> bool:
        """A plain head has no `Connection: close`."""
        return False


class PlainHeads:
    """Parses plain heads with the limits of a gunicorn configuration."""

    def __init__(self, cfg: Config) -> None:
        self._is_used = _leaves_defaults(cfg)
        limits = (cfg.limit_request_line, cfg.limit_request_field_size)
        self._max_bytes = min(MAX_BYTES, *(limit for limit in limits if limit > 0))
        self._max_fields = cfg.limit_request_fields
        spellings = {spelling for name in _USUAL_NAMES for spelling in (name, name.lower(), name.upper())}
        self._keys = {name: key for name in spellings if (key := _key_of(name)) is not None}
        """Name as it was sent to its upper-case form and its key in the environment."""
        self._constant = base_environ(cfg) | {
            "wsgi.errors": ERRORS,
            "wsgi.multithread": True,
            "wsgi.input": EmptyBody(),
            "wsgi.url_scheme": "http",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SCRIPT_NAME": "",
        }
        del self._constant["wsgi.file_wrapper"]

    def parse(self, received: bytes, conn: ClientConnection) -> tuple[PlainRequest, dict[str, Any]] | None:
        """The request, and its WSGI environment. None if `received` is not exactly one plain head."""
        if not self._is_used or len(received) > self._max_bytes or received.find(b"\r\n\r\n") != len(received) - 4:
            return None
        lines = received.count(b"\r\n")
        if received.count(b"\r") != lines or received.count(b"\n") != lines or _TEXT.fullmatch(received) is None:
            return None
        line, *fields = received[:-4].decode("latin-1").split("\r\n")
        target = _REQUEST_LINE.fullmatch(line)
        if target is None or len(fields) > self._max_fields:
            return None
        environ = self._constant.copy()
        headers = []
        for field in fields:
            name, colon, value = field.partition(":")
            known = self._keys.get(name) or _key_of(name)
            value = value.strip(" \t")
            if not colon or known is None or known[1] in environ:
                return None
            if known[0] == "CONNECTION" and value.lower() != "keep-alive":
                return None
            headers.append((known[0], value))
            environ[known[1]] = value
        method, path, query = target.groups()
        query = "" if query is None else query[1:]
        uri = line[len(method) + 1 : -len(" HTTP/1.1")]
        environ["gunicorn.socket"] = conn
        environ["REQUEST_METHOD"] = method
        environ["RAW_URI"] = uri
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        environ["QUERY_STRING"] = query
        return (PlainRequest(method, uri, path, query, headers), environ) if _add_addresses(environ, conn) else None


def _key_of(name: str) -> tuple[str, str] | None:
    """The name in upper case and its key in the environment. None if gunicorn must handle the header."""
    upper = name.upper()
    if _NAME.fullmatch(name) is None or upper in _FRAMING:
        return None
    return upper, "CONTENT_TYPE" if upper == "CONTENT-TYPE" else "HTTP_" + upper.replace("-", "_")


def _add_addresses(environ: dict[str, Any], conn: ClientConnection) -> bool:
    """Add the addresses of both sides, as gunicorn does. Returns whether they are known."""
    client, server, host = conn.client, conn.server, environ.get("HTTP_HOST")
    if not host:
        return False
    if isinstance(client, tuple):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    else:
        environ["REMOTE_ADDR"] = client if isinstance(client, str) else client.decode()
    if isinstance(server, str):  # a Unix socket
        if ":" in server:
            return False
        server = [*host.split(":"), "80"]
    environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
    return True


def _leaves_defaults(cfg: Config) -> bool:
    """Whether no setting changes what a plain head means."""
    return (
        not cfg.is_ssl
        and not cfg.secure_scheme_headers
        and not cfg.strip_header_spaces
        and cfg.proxy_protocol == "off"
        and not os.environ.get("SCRIPT_NAME")
        and cfg.limit_request_fields > 0
    )
