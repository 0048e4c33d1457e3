"""Slow clients: they don't delay other clients, and each has a deadline."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until
from tests.web.server.running import get, open_connections, read_answer, refused, rest, small
from tests.web.server.small import LARGE

pytestmark = pytest.mark.processes

MANY = 200
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: a"
HALF_A_BODY = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"
HALF_A_CHUNK = b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf"
HALF_A_LARGE_BODY = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"x" * 1000
NOT_READ = b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"x" * 1000
EXPECTING = b"POST /read HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
def long_deadlines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Two threads and deadlines longer than any test: a served request was not queued behind a slow client."""
    folder = tmp_path_factory.mktemp("patient")
    limits = {"HEAD_SECONDS": "600", "BODY_SECONDS": "600", "GRACE_SECONDS": "600", "CONNECTIONS": "500"}
    with small(folder, **limits) as server:
        yield server


@pytest.fixture(scope="module")
def short_deadlines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Every part of a request has a deadline of one second."""
    with small(tmp_path_factory.mktemp("hasty"), HEAD_SECONDS="1", BODY_SECONDS="1", GRACE_SECONDS="1") as server:
        yield server


@pytest.mark.parametrize(
    "first_bytes",
    [b"", HALF_A_HEAD, HALF_A_BODY, HALF_A_CHUNK, HALF_A_LARGE_BODY, NOT_READ, EXPECTING],
    ids=["silent", "head", "body", "chunk", "large-body", "large-body-nobody-reads", "expecting"],
)
def test_many_slow_clients_do_not_delay_others(long_deadlines: Gunicorn, first_bytes: bytes) -> None:
    with open_connections(long_deadlines, MANY, first_bytes):
        assert get(long_deadlines, "/healthz").isdigit()
        with long_deadlines.connect() as connection:
            for _ in range(3):
                connection.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nfast")
                assert read_answer(connection)[2] == b"4"


def test_clients_that_do_not_read_do_not_delay_others(long_deadlines: Gunicorn) -> None:
    # Each requests 100 responses and reads none.
    with open_connections(long_deadlines, 50, b"GET /environ HTTP/1.1\r\nHost: x\r\n\r\n" * 100):
        assert get(long_deadlines, "/healthz").isdigit()


def test_silent_connection_is_closed_without_a_response(short_deadlines: Gunicorn) -> None:
    with short_deadlines.connect() as connection:
        assert rest(connection) == b""
    assert refused(short_deadlines)["silent"] >= 1


@pytest.mark.parametrize(
    ("first_bytes", "reason"),
    [
        (HALF_A_HEAD, "slow_head"),
        (HALF_A_BODY, "slow_body"),
        (HALF_A_CHUNK, "slow_body"),
        (HALF_A_LARGE_BODY, "slow_body"),
    ],
    ids=["head", "body", "chunk", "large-body"],
)
def test_incomplete_request_returns_408_at_the_deadline(
    short_deadlines: Gunicorn, first_bytes: bytes, reason: str
) -> None:
    before = refused(short_deadlines).get(reason, 0)
    with short_deadlines.connect() as connection:
        connection.sendall(first_bytes)
        status, headers, body = read_answer(connection)
        assert rest(connection) == b""
    assert (status, headers["connection"]) == (408, "close")
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["code"] == "request_timeout"
    assert refused(short_deadlines)[reason] == before + 1


def test_second_request_of_a_connection_has_a_deadline(short_deadlines: Gunicorn) -> None:
    with short_deadlines.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(connection)[0] == 200
        connection.sendall(HALF_A_HEAD)
        assert read_answer(connection)[0] == 408


def test_deadline_of_a_head_is_not_extended_by_single_bytes(short_deadlines: Gunicorn) -> None:
    with short_deadlines.connect() as connection:
        connection.settimeout(0.05)
        answered = b""
        while not answered:
            connection.sendall(b"a")
            try:
                answered = connection.recv(65_536)
            except TimeoutError:
                continue
    assert b" 408 " in answered


@pytest.mark.parametrize("large", [False, True], ids=["small-body", "large-body"])
def test_body_slower_than_the_minimum_rate_is_rejected(tmp_path: Path, large: bool) -> None:
    floor = {"BODY_SECONDS": "600", "GRACE_SECONDS": "0.5", "BYTES_PER_SECOND": "5000"}
    length = 500_000 if large else 60_000
    with small(tmp_path, **floor) as server, server.connect() as connection:
        connection.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
        connection.settimeout(0.05)
        answered = b""
        while not answered:
            connection.sendall(b"a")
            try:
                answered = connection.recv(65_536)
            except TimeoutError:
                continue
        assert b" 408 " in answered
        assert refused(server)["slow_body"] == 1


def test_waiting_for_a_thread_does_not_count_against_a_large_body(tmp_path: Path) -> None:
    limits = {"BODY_SECONDS": "600", "GRACE_SECONDS": "2", "BYTES_PER_SECOND": "20000"}
    slow = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"x" * 60_000  # has 5 s for that
    with small(tmp_path, **limits) as server, open_connections(server, 2, slow), server.connect() as connection:
        get(server, "/")
        connection.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
        status, _, body = read_answer(connection)
        assert (status, body) == (200, b"100000")


def test_client_that_does_not_read_its_response_is_disconnected(short_deadlines: Gunicorn) -> None:
    before = refused(short_deadlines).get("slow_reader", 0)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((short_deadlines.host, short_deadlines.port))
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: refused(short_deadlines).get("slow_reader", 0) > before, 60)


def test_large_response_arrives_completely(long_deadlines: Gunicorn) -> None:
    assert len(get(long_deadlines, "/large")) == LARGE


def test_oldest_incomplete_connection_is_closed_at_the_limit(long_deadlines: Gunicorn) -> None:
    limit = 500
    with open_connections(long_deadlines, limit + 20, b"") as connections:
        assert get(long_deadlines, "/healthz").isdigit()
        assert rest(connections[0]) == b""
    assert refused(long_deadlines)["crowded"] >= 20


def test_buffered_bytes_of_incomplete_requests_are_bounded(long_deadlines: Gunicorn) -> None:
    before = refused(long_deadlines).get("crowded", 0)
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\nX-Long: " + b"a" * 60_000 + b"\r\n\r\n"
    with open_connections(long_deadlines, 300, head + b"x" * 60_000):  # 36 MB, of which 32 MiB are buffered
        wait_until(lambda: refused(long_deadlines).get("crowded", 0) > before, 60)


def test_head_over_64_kib_returns_431(long_deadlines: Gunicorn) -> None:
    with long_deadlines.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Long: aaaaaaaaaaaaaaaaaaa\r\n" * 3000)
        status, headers, body = read_answer(connection)
    assert (status, headers["connection"]) == (431, "close")
    assert json.loads(body)["code"] == "headers_too_large"


def test_reset_connections_leave_no_state(long_deadlines: Gunicorn) -> None:
    for first_bytes in (b"", HALF_A_HEAD, HALF_A_BODY, HALF_A_LARGE_BODY, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"):
        connection = long_deadlines.connect()
        connection.sendall(first_bytes)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert get(long_deadlines, "/healthz").isdigit()
    assert "Traceback" not in long_deadlines.log.read_text()
