"""Detection of the end of a request, in pieces of any size, compared with gunicorn's parser."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import given
from hypothesis import strategies as st

from kataven.web.server.arrival import Arrival, Progress
from kataven.web.server.timeouts import BODY_BYTES, HEAD_BYTES

LINE = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
PIECES = st.sampled_from(
    [
        LINE,
        CHUNKED,
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.0\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"Content-Length: 3\r\n",
        b"content-length:2\r\n",
        b"Content-Length: x\r\n",
        b"Content-Length: 70000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"X: y\r\n",
        b"abc",
        b"3\r\n",
        b"1;a=b\r\n",
        b"0\r\n",
        b"0x0\r\n",
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"a",
    ]
)


class WouldWait(Exception):
    """The parser reads beyond the available bytes."""


class Given:
    """A socket from which only these bytes can be read."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def recv(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        if not taken:
            raise WouldWait
        return taken


def parser_waits(data: bytes) -> bool:
    """Whether gunicorn's parser, and a reader of the body, read beyond the available bytes."""
    config = Config()
    config.set("limit_request_field_size", 65_536)
    parser: Any = RequestParser(config, Given(data), ("127.0.0.1", 1))
    try:
        next(parser).body.read()
    except WouldWait:
        return True
    except Exception:  # refused, or the end of it
        return False
    return False


def all_at_once(data: bytes) -> Progress:
    return Arrival().add(data)


@given(st.lists(PIECES, max_size=12).map(b"".join).filter(bool))
def test_parser_never_blocks_on_a_complete_request(data: bytes) -> None:
    if all_at_once(data) is Progress.WHOLE:
        assert not parser_waits(data)


@given(st.lists(PIECES, max_size=12).map(b"".join).filter(bool), st.data())
def test_result_does_not_depend_on_how_the_request_is_split(data: bytes, draw: st.DataObject) -> None:
    arrival, at, progress = Arrival(), 0, Progress.MORE
    while progress is Progress.MORE and at < len(data):
        size = draw.draw(st.integers(1, 7))
        progress = arrival.add(data[at : at + size])
        at += size
    whole = all_at_once(data)
    if progress is Progress.MORE:
        assert whole is Progress.MORE
    elif whole is Progress.MORE:
        pytest.fail(f"{progress} after {at} bytes")


@pytest.mark.parametrize(
    ("data", "progress"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n", Progress.MORE),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Progress.WHOLE),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", Progress.WHOLE),
        (b"GET / HTTP/1.1\nHost: x", Progress.WHOLE),
        (LINE + b"X: a\nb\r\nContent-Length: 3\r\n\r\n", Progress.WHOLE),
        (b"G" * 9000, Progress.WHOLE),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES, Progress.HEAD_TOO_LARGE),
        (LINE + b"Content-Length: 3\r\n\r\nab", Progress.MORE),
        (LINE + b"CONTENT-LENGTH: 3\r\n\r\nabc", Progress.WHOLE),
        (LINE + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES + 1), Progress.LARGE),
        (LINE + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", Progress.LARGE),
        (LINE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Progress.WHOLE),
        (CHUNKED, Progress.MORE),
        (CHUNKED + b"3\r\nabc\r\n", Progress.MORE),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", Progress.MORE),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", Progress.WHOLE),
        (CHUNKED + b"0\r\nX-Trailer: y\r\n", Progress.MORE),
        (CHUNKED + b"0\r\nX-Trailer: y\r\n\r\n", Progress.WHOLE),
        (CHUNKED + b"0x0\r\n", Progress.WHOLE),
        (CHUNKED + b"3\r\nabcde", Progress.WHOLE),
        (CHUNKED + b"1" * 2000, Progress.LARGE),
        (CHUNKED + b"fffff\r\n", Progress.LARGE),
        (CHUNKED + b"f" * 16 + b"\r\nabc", Progress.LARGE),
        (CHUNKED + b"1\r\na\r\n" * (BODY_BYTES // 6 + 1), Progress.LARGE),
    ],
)
def test_progress_of_a_request(data: bytes, progress: Progress) -> None:
    assert all_at_once(data) is progress
