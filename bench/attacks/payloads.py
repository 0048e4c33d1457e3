"""The payloads of attackers: expensive bodies, malformed chunked bodies, and incomplete requests."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from bench.attacks.connection import bearer, request

GUEST = "/v1/widget/auth/guest"
NESTING = 190
"""Just below the nesting limit of JSON parsers."""


def unknown_names(size: int) -> bytes:
    """A JSON object of about `size` bytes with as many unknown names as fit: 111,846 in 1 MiB."""
    members = (f'"{number:x}":0' for number in count())
    return _filled("{", members, "}", size)


def repeated_names(size: int) -> bytes:
    """One valid name, repeated."""
    return _filled("{", ('"client_key":"x"' for _ in count()), "}", size)


def nested(size: int) -> bytes:
    """Many values, each at the parser's maximum depth."""
    return _filled('{"client_key":[', ("[" * NESTING + "]" * NESTING for _ in count()), "]}", size)


def long_string(size: int) -> bytes:
    """One value that fills the body, in multi-byte characters."""
    text = '{"client_key":"%s","agent_id":"x"}'
    return (text % ("é" * ((size - len(text)) // 2))).encode()


def _filled(opening: str, members: Iterator[str], closing: str, size: int) -> bytes:
    parts, left = [], size - len(opening) - len(closing)
    for member in members:
        if len(member) > left:
            break
        parts.append(member)
        left -= len(member) + 1
    return (opening + ",".join(parts) + closing).encode()


def post_guest(body: bytes) -> bytes:
    return request("POST", GUEST, {}, body)


def broken_chunks() -> list[bytes]:
    """Chunked bodies that violate RFC 9112, section 7.1: invalid sizes, extensions, terminators and trailers."""
    bodies = [
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b"+5\r\nabcde\r\n0\r\n\r\n",
        b"-1\r\nabcde\r\n0\r\n\r\n",
        b"5_0\r\nabcde\r\n0\r\n\r\n",
        b" 5\r\nabcde\r\n0\r\n\r\n",
        b"\r\n\r\n",
        b"zz\r\nabcde\r\n0\r\n\r\n",
        b"5\r\nabcdeX\r\n0\r\n\r\n",
        b"5\r\nabcde0\r\n\r\n",
        b"5;a=\n\r\nabcde\r\n0\r\n\r\n",
        b"5\r\nabcde\r\n0\r\nbad trailer\r\n\r\n",
        b"5\r\nabcde\r\n0\r\nna(me: x\r\n\r\n",
        b"ffffffffffffffffffff\r\nabcde\r\n0\r\n\r\n",
    ]
    head = request("POST", GUEST, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    return [head + body for body in bodies]


def half_head() -> bytes:
    return b"GET /v1/agents HTTP/1.1\r\nHost: api\r\nX-Slow: "


def half_body(key: str | None) -> bytes:
    """The head of a POST and ten bytes of its body. `key` is a valid credential."""
    path, headers = (GUEST, {}) if key is None else ("/v1/agents", bearer(key))
    return request("POST", path, headers, b'{"name": "' + b"x" * 500)[:-500]
