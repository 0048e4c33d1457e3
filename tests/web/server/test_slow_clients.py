"""Slow clients: none of them keeps another one waiting, and each has its deadline."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until
from tests.web.server.running import crowd, get, read_answer, refused, rest, small
from tests.web.server.small import LARGE

CROWD = 200
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: a"
HALF_A_BODY = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"
HALF_A_CHUNK = b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf"
HALF_A_LARGE_BODY = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"x" * 1000
NOT_READ = b"POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"x" * 1000
EXPECTING = b"POST /read HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Two threads, which wait for longer than any test: whoever is answered was not behind somebody slow."""
    folder = tmp_path_factory.mktemp("patient")
    limits = {"HEAD_SECONDS": "600", "BODY_SECONDS": "600", "GRACE_SECONDS": "600", "CONNECTIONS": "500"}
    with small(folder, **limits) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """Everything has to be there within a second."""
    with small(tmp_path_factory.mktemp("hasty"), HEAD_SECONDS="1", BODY_SECONDS="1", GRACE_SECONDS="1") as server:
        yield server


@pytest.mark.parametrize(
    "first_words",
    [b"", HALF_A_HEAD, HALF_A_BODY, HALF_A_CHUNK, HALF_A_LARGE_BODY, NOT_READ, EXPECTING],
    ids=["silent", "head", "body", "chunk", "large-body", "large-body-nobody-reads", "expecting"],
)
def test_a_crowd_of_slow_clients_keeps_nobody_waiting(patient: Gunicorn, first_words: bytes) -> None:
    with crowd(patient, CROWD, first_words):
        assert get(patient, "/healthz").isdigit()
        with patient.connect() as connection:
            for _ in range(3):
                connection.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nfast")
                assert read_answer(connection)[2] == b"4"


def test_a_crowd_that_reads_no_answer_keeps_nobody_waiting(patient: Gunicorn) -> None:
    # Each asks for 100 answers and reads none.
    with crowd(patient, 50, b"GET /environ HTTP/1.1\r\nHost: x\r\n\r\n" * 100):
        assert get(patient, "/healthz").isdigit()


def test_a_silent_connection_is_closed_without_a_word(hasty: Gunicorn) -> None:
    with hasty.connect() as connection:
        assert rest(connection) == b""
    assert refused(hasty)["silent"] >= 1


@pytest.mark.parametrize(
    ("first_words", "reason"),
    [
        (HALF_A_HEAD, "slow_head"),
        (HALF_A_BODY, "slow_body"),
        (HALF_A_CHUNK, "slow_body"),
        (HALF_A_LARGE_BODY, "slow_body"),
    ],
    ids=["head", "body", "chunk", "large-body"],
)
def test_half_a_request_is_answered_408_in_the_end(hasty: Gunicorn, first_words: bytes, reason: str) -> None:
    before = refused(hasty).get(reason, 0)
    with hasty.connect() as connection:
        connection.sendall(first_words)
        status, headers, body = read_answer(connection)
        assert rest(connection) == b""
    assert (status, headers["connection"]) == (408, "close")
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["code"] == "request_timeout"
    assert refused(hasty)[reason] == before + 1


def test_the_second_head_of_a_connection_has_a_deadline_too(hasty: Gunicorn) -> None:
    with hasty.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(connection)[0] == 200
        connection.sendall(HALF_A_HEAD)
        assert read_answer(connection)[0] == 408


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(hasty: Gunicorn) -> None:
    with hasty.connect() as connection:
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
def test_a_body_below_the_floor_is_given_up(tmp_path: Path, large: bool) -> None:
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


def test_a_large_body_that_waits_for_a_thread_loses_no_time(tmp_path: Path) -> None:
    limits = {"BODY_SECONDS": "600", "GRACE_SECONDS": "2", "BYTES_PER_SECOND": "20000"}
    slow = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"x" * 60_000  # is given 5 s for that
    with small(tmp_path, **limits) as server, crowd(server, 2, slow), server.connect() as connection:
        get(server, "/")
        connection.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
        status, _, body = read_answer(connection)
        assert (status, body) == (200, b"100000")


def test_a_client_that_takes_no_answer_is_given_up(hasty: Gunicorn) -> None:
    before = refused(hasty).get("slow_reader", 0)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((hasty.host, hasty.port))
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: refused(hasty).get("slow_reader", 0) > before, 60)


def test_a_large_answer_arrives_whole(patient: Gunicorn) -> None:
    assert len(get(patient, "/large")) == LARGE


def test_the_oldest_connection_makes_room_for_a_new_one(patient: Gunicorn) -> None:
    limit = 500
    with crowd(patient, limit + 20, b"") as connections:
        assert get(patient, "/healthz").isdigit()
        assert rest(connections[0]) == b""
    assert refused(patient)["crowded"] >= 20


def test_what_is_kept_of_requests_under_way_is_bounded(patient: Gunicorn) -> None:
    before = refused(patient).get("crowded", 0)
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\nX-Long: " + b"a" * 60_000 + b"\r\n\r\n"
    with crowd(patient, 300, head + b"x" * 60_000):  # 36 MB, of which 32 MiB are kept
        wait_until(lambda: refused(patient).get("crowded", 0) > before, 60)


def test_a_head_of_more_than_64_kib_is_a_431(patient: Gunicorn) -> None:
    with patient.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Long: aaaaaaaaaaaaaaaaaaa\r\n" * 3000)
        status, headers, body = read_answer(connection)
    assert (status, headers["connection"]) == (431, "close")
    assert json.loads(body)["code"] == "headers_too_large"


def test_connections_that_are_reset_leave_nothing_behind(patient: Gunicorn) -> None:
    for first_words in (b"", HALF_A_HEAD, HALF_A_BODY, HALF_A_LARGE_BODY, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"):
        connection = patient.connect()
        connection.sendall(first_words)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert get(patient, "/healthz").isdigit()
    assert "Traceback" not in patient.log.read_text()
