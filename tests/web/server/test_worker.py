"""Single steps of the worker that can't be triggered reliably on a real server."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config

from kataven.web.server.connection import ClientConnection, Phase
from kataven.web.server.timeouts import BodyClock, SocketTimeouts
from kataven.web.server.worker import BufferingWorker


@pytest.fixture
def worker() -> Iterator[BufferingWorker]:
    made = BufferingWorker(1, os.getppid(), [], None, 30, Config(), None)
    made.poller = selectors.DefaultSelector()
    yield made
    made.poller.close()
    made.tmp.close()


def connected(worker: BufferingWorker) -> tuple[ClientConnection, socket.socket]:
    ours, theirs = socket.socketpair()
    worker.nr_conns += 1
    conn = ClientConnection(ours, "", "", worker.cfg, worker.timeouts)
    worker._waiting[conn] = None
    return conn, theirs


def test_event_of_a_connection_closed_in_the_same_round_is_ignored(worker: BufferingWorker) -> None:
    (first, client), (second, other) = connected(worker), connected(worker)
    called = []

    def close_the_other(conn: ClientConnection, _fileobj: Any) -> None:
        called.append(conn)
        worker._close(second if conn is first else first)

    for conn in (first, second):
        worker._listen(conn, close_the_other)
    for socket_ in (client, other):
        socket_.sendall(b"x")
    worker.wait_for_and_dispatch_events(1)
    assert len(called) == 1
    assert worker.nr_conns == 1
    worker._close(called[0])
    client.close()
    other.close()


def test_internal_error_closes_the_connection_and_not_the_worker(
    worker: BufferingWorker, caplog: pytest.LogCaptureFixture
) -> None:
    conn, client = connected(worker)

    def fail(_conn: ClientConnection, _fileobj: Any) -> None:
        raise RuntimeError("unforeseen")

    worker._listen(conn, fail)
    client.sendall(b"x")
    worker.wait_for_and_dispatch_events(1)
    assert conn.phase is Phase.CLOSED
    assert worker.nr_conns == 0
    client.close()


def test_buffered_byte_count_returns_to_zero(worker: BufferingWorker) -> None:
    conn, client = connected(worker)
    client.sendall(b"GET / HTTP/1.1\r\n")
    worker._receive(conn)
    assert worker._buffered == 16
    worker._close(conn)
    assert worker._buffered == 0
    assert not worker._waiting
    client.close()


@pytest.mark.parametrize(
    ("setting", "value"), [("certfile", "/dev/null"), ("keyfile", "/dev/null"), ("proxy_protocol", "v1")]
)
def test_unsupported_gunicorn_settings_are_rejected_by_name(setting: str, value: str) -> None:
    config = Config()
    config.set(setting, value)
    with pytest.raises(ValueError, match=setting):
        BufferingWorker.check_config(config, None)


def test_deadline_moves_with_received_bytes(worker: BufferingWorker) -> None:
    clock = BodyClock(SocketTimeouts(body_seconds=10, bytes_per_second=1000, grace_seconds=3), started=100.0)
    assert clock.deadline == 103
    clock.received = 4000
    assert clock.deadline == 107
    clock.received = 1_000_000
    assert clock.deadline == 110
