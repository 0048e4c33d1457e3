"""A plain head has the same WSGI environment as the one that gunicorn's parser creates, and no other head is plain."""

from __future__ import annotations

import ast
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from hypothesis import example, given
from hypothesis import strategies as st

import kataven
from kataven.web.server.connection import ClientConnection
from kataven.web.server.errors import BodyError
from kataven.web.server.plain_head import PlainHeads
from kataven.web.server.response import Response
from kataven.web.server.timeouts import SocketTimeouts

SETTINGS = (
    "forwarded_allow_ips",
    "forwarder_headers",
    "secure_scheme_headers",
    "limit_request_field_size",
    "http_parser",
)
PER_REQUEST = {"wsgi.input", "wsgi.errors", "wsgi.early_hints", "wsgi.file_wrapper", "wsgi.multithread"}
TCP = ("127.0.0.1", 8000), ("192.0.2.7", 40_000)
USUAL = (
    b"GET /v1/verify?cost=5&mode=nginx HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer sk_live_acme_x\r\n"
    b"X-Forwarded-For: 203.0.113.9\r\nUser-Agent:curl/8.5.0\r\nAccept: */*\r\nConnection: Keep-Alive\r\n\r\n"
)


def product_settings() -> dict[str, object]:
    """Read from the file: importing it would set this process up as gunicorn's master."""
    file = Path(kataven.__file__).parent / "serve" / "gunicorn_conf.py"
    found = {}
    for node in ast.parse(file.read_text()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id in SETTINGS:
            found[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return found


def configuration(**changes: object) -> Config:
    cfg = Config()
    for name in SETTINGS:
        cfg.set(name, product_settings()[name])
    for name, value in changes.items():
        cfg.set(name, value)
    return cfg


CFG = configuration()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def parsed(
    received: bytes, sock: socket.socket, cfg: Config = CFG, addresses: tuple[Any, Any] = TCP
) -> tuple[Any, Any]:
    """What this module parses, and what gunicorn parses: each is a request and an environment, or None."""
    server, client = addresses
    conn = ClientConnection(sock, client, server, cfg, SocketTimeouts())
    ours = PlainHeads(cfg).parse(received, conn)
    try:
        request = conn.parse(received)
        behind = conn.parser.unreader.take_buffered()
        _, environ = wsgi.create(request, conn, client, server, cfg, response_class=Response)
    except (ParseException, StopIteration, BodyError):
        return ours, None
    return ours, None if behind else (request, environ)


def assert_same(received: bytes, sock: socket.socket, cfg: Config = CFG, addresses: tuple[Any, Any] = TCP) -> bool:
    """Returns whether the head is plain."""
    ours, theirs = parsed(received, sock, cfg, addresses)
    if ours is None:
        return False
    assert theirs is not None, "gunicorn refuses it"
    (request, environ), (other, expected) = ours, theirs
    assert {name: value for name, value in environ.items() if name not in PER_REQUEST} == {
        name: value for name, value in expected.items() if name not in PER_REQUEST
    }
    for name in ("method", "uri", "path", "query", "version", "headers"):
        assert getattr(request, name) == getattr(other, name), name
    assert not other.should_close()
    assert other.body.read() == b""
    return True


def test_usual_heads_are_plain(pair: tuple[socket.socket, socket.socket]) -> None:
    sock = pair[0]
    assert assert_same(USUAL, sock)
    assert assert_same(b"HEAD /a%20b/%C3%BC;x=1//y HTTP/1.1\r\nhost: x:80\r\nContent-Type: a/b\r\n\r\n", sock)
    assert assert_same(b"DELETE /?a?b HTTP/1.1\r\nHost: x\r\nX-Empty:\r\nX-Text: \t caf\xe9 \r\n\r\n", sock)
    assert assert_same(USUAL, sock, addresses=("/run/api.sock", ""))
    assert assert_same(USUAL.replace(b"example.com", b"example.com:81"), sock, addresses=("/run/api.sock", b""))


@pytest.mark.parametrize(
    "received",
    [
        USUAL + b"GET / HTTP/1.1\r\n",
        USUAL + USUAL,
        b"\r\n" + USUAL,
        USUAL.replace(b"HTTP/1.1", b"HTTP/1.0"),
        USUAL.replace(b"GET", b"POST"),
        USUAL.replace(b"GET", b"get"),
        USUAL.replace(b"GET /", b"GET http://x/"),
        USUAL.replace(b"GET /", b"GET //"),
        USUAL.replace(b"GET ", b"GET  "),
        USUAL.replace(b"nginx", b"#nginx"),
        USUAL.replace(b"nginx", b"\xfc"),
        USUAL.replace(b"Host", b"X-Host"),
        USUAL.replace(b"api.example.com", b""),
        USUAL.replace(b"User-Agent", b"Host"),
        USUAL.replace(b"User-Agent", b"authorization"),
        USUAL.replace(b"User-Agent", b"User_Agent"),
        USUAL.replace(b"User-Agent", b"User Agent"),
        USUAL.replace(b"User-Agent", b" User-Agent"),
        USUAL.replace(b"User-Agent:", b"User-Agent :"),
        USUAL.replace(b"User-Agent:", b":"),
        USUAL.replace(b"User-Agent:", b""),
        USUAL.replace(b"User-Agent", b"Content-Length"),
        *(USUAL.replace(b"Accept: */*", line) for line in (b"Content-Length: 0", b"Transfer-Encoding: chunked")),
        *(USUAL.replace(b"Accept: */*", line) for line in (b"Expect: 100-continue", b"Upgrade: h2c", b"TE: trailers")),
        *(USUAL.replace(b"Keep-Alive", value) for value in (b"close", b"upgrade", b"keep-alive, close")),
        *(USUAL.replace(b"curl", character) for character in (b"\n", b"\r", b"\x00", b"\x0b", b"\x7f")),
        USUAL.replace(b"curl", b"x" * 8190),
        USUAL.replace(b"Accept: */*", b"\r\n".join(b"X-%d: x" % number for number in range(101))),
        USUAL[:-2],
        b"",
    ],
)
def test_other_heads_are_left_to_gunicorn(pair: tuple[socket.socket, socket.socket], received: bytes) -> None:
    assert not assert_same(received, pair[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"secure_scheme_headers": {"X-FORWARDED-PROTO": "https"}},
        {"strip_header_spaces": True},
        {"proxy_protocol": True},
        {"limit_request_line": 100},
        {"limit_request_field_size": 100},
        {"limit_request_fields": 3},
    ],
)
def test_a_configuration_that_gives_heads_another_meaning(
    pair: tuple[socket.socket, socket.socket], changes: dict[str, object]
) -> None:
    assert not assert_same(USUAL, pair[0], configuration(**changes))


NAMES = st.sampled_from(
    [b"Host", b"host", b"Authorization", b"Connection", b"Content-Length", b"X-A", b"X_A", b"Expect", b"TE", b"X A"]
) | st.binary(max_size=8)
VALUES = st.sampled_from(
    [b"x", b" keep-alive", b"close", b"0", b" 5", b"chunked", b"100-continue", b" a\tb "]
) | st.binary(max_size=12)
TARGETS = st.sampled_from([b"/", b"/v1/verify", b"//x", b"*", b"/%2F", b"/a?b#c", b"/a?b?c", b"x:1"]) | st.binary(
    max_size=12
)


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"G"]),
    TARGETS,
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.sampled_from([b"\r\n\r\n", b"\r\n", b"\n\n", b"\r\n\r\nGET"]),
)
@example(b"GET", b"/v1/verify", [(b"Host", b"x"), (b"X-A", b" keep-alive")], b"\r\n\r\n")
def test_no_head_has_another_meaning_than_in_gunicorn(
    pair: tuple[socket.socket, socket.socket],
    method: bytes,
    target: bytes,
    fields: list[tuple[bytes, bytes]],
    end: bytes,
) -> None:
    lines = [b"%b %b HTTP/1.1" % (method, target), *(b"%b:%b" % field for field in fields)]
    assert_same(b"\r\n".join(lines) + end, pair[0])
    # With a host, so that more of them are plain.
    assert_same(b"\r\n".join([lines[0], b"Host: x", *lines[1:]]) + end, pair[0])


def test_names_of_clients_are_not_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    """A client that forgets the name of a header sends its credential as one."""
    heads = PlainHeads(CFG)
    kept = dict(heads._keys)
    conn = ClientConnection(pair[0], TCP[1], TCP[0], CFG, SocketTimeouts())
    assert heads.parse(b"GET / HTTP/1.1\r\nHost: x\r\nX-Unusual: y\r\n\r\n", conn) is not None
    assert heads.parse(b"GET / HTTP/1.1\r\nHost: x\r\neyJhbGciOi.abc.def\r\n\r\n", conn) is None
    assert heads._keys == kept
