"""Single steps of the worker that can't be triggered reliably on a real server."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from selectors import EVENT_READ
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER

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

    def close_the_other(conn: ClientConnection) -> None:
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


@pytest.mark.parametrize(("whole", "reported"), [(True, 1), (False, 0)], ids=["a whole request", "a large body"])
def test_rest_of_a_large_body_is_reported_to_its_thread_only(
    worker: BufferingWorker, monkeypatch: pytest.MonkeyPatch, whole: bool, reported: int
) -> None:
    """Otherwise the main thread takes the event for the next request, with its short deadline."""
    conn, client = connected(worker)
    worker._listen(conn, worker._receive)
    monkeypatch.setattr(worker, "enqueue_req", lambda conn: None)
    worker._hand_over(conn, whole=whole)
    client.sendall(b"x")
    assert len(worker.poller.select(0)) == reported
    worker._close(conn)
    client.close()


def test_internal_error_closes_the_connection_and_not_the_worker(
    worker: BufferingWorker, caplog: pytest.LogCaptureFixture
) -> None:
    conn, client = connected(worker)

    def fail(_conn: ClientConnection) -> None:
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


def test_connections_become_idle_in_threads_while_the_main_thread_uses_and_caps_them(worker: BufferingWorker) -> None:
    rounds, deadline = 60, time.monotonic() + 0.5
    served: list[tuple[ClientConnection, socket.socket]] = []
    worker.enqueue_req = lambda conn: None  # type: ignore[method-assign]
    pairs = [connected(worker) for _ in range(4 * rounds)]
    for conn, client in pairs:
        worker._forget(conn)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # the next request may arrive before this one ends

    def finish(part: list[tuple[ClientConnection, socket.socket]]) -> None:
        for pair in part:
            worker._set_idle(pair[0])
            served.append(pair)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(finish, pairs[start::4]) for start in range(4)]
        while not all(one.done() for one in running) or worker.keepalived_conns:
            worker._cap_keepalive(deadline)
            worker.wait_for_and_dispatch_events(0.01)
        for one in running:
            one.result()
    assert len(served) == len(pairs)
    assert {conn.phase for conn, _ in pairs} == {Phase.IN_THREAD}
    assert len(worker.poller.get_map()) == sum(conn.registered == EVENT_READ for conn, _ in pairs)
    for conn, client in pairs:
        conn.sock.close()
        client.close()


def test_a_connection_that_becomes_idle_in_a_stopping_worker_is_kept_briefly(worker: BufferingWorker) -> None:
    worker.alive = False
    conn, client = connected(worker)
    worker._forget(conn)
    worker._set_idle(conn)
    assert conn.timeout <= time.monotonic() + STOP_KEEPALIVE_LINGER
    worker._close(worker._oldest_idle())
    client.close()


def test_pipelined_bytes_and_an_unsent_response_are_left_to_the_main_thread(worker: BufferingWorker) -> None:
    conn, client = connected(worker)
    assert conn.is_finished()
    conn.parser.unreader.unread(b"GET /next")
    assert not conn.is_finished()
    assert conn.take_back() == b"GET /next"
    conn.outbox += b"rest"
    assert not conn.is_finished()
    worker._close(conn)
    client.close()


def test_a_request_that_arrives_before_its_connection_is_registered_completely_is_received_once(
    worker: BufferingWorker,
) -> None:
    received: list[ClientConnection] = []
    worker.enqueue_req = received.append  # type: ignore[method-assign,assignment]
    conn, client = connected(worker)
    worker._forget(conn)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    register, dispatched = worker.poller.register, threading.Event()

    def dispatch() -> None:
        while not received:  # the poller repeats an event that came too early
            worker.wait_for_and_dispatch_events(30)
        dispatched.set()

    main_thread = threading.Thread(target=dispatch)

    def register_and_be_overtaken(*arguments: Any) -> Any:
        registered = register(*arguments)
        main_thread.start()
        dispatched.wait(0.2)  # without the lock, the main thread receives the request now
        return registered

    worker.poller.register = register_and_be_overtaken
    worker._set_idle(conn)
    main_thread.join(30)
    assert received == [conn]
    assert (conn.phase, len(worker.poller.get_map())) == (Phase.IN_THREAD, 1)
    conn.sock.close()
    client.close()


def test_a_request_that_arrives_while_a_thread_has_the_connection_is_received_when_the_thread_is_done(
    worker: BufferingWorker,
) -> None:
    served: list[ClientConnection] = []
    worker.enqueue_req = served.append  # type: ignore[method-assign,assignment]
    conn, client = connected(worker)
    worker._receive(conn)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    worker.wait_for_and_dispatch_events(30)
    assert (served, conn.phase, conn.registered) == ([conn], Phase.IN_THREAD, EVENT_READ)
    client.sendall(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    worker.wait_for_and_dispatch_events(30)
    assert (served, conn.phase, conn.registered) == ([conn], Phase.IN_THREAD, 0)
    assert worker.poller.select(0) == []  # the poller would report it in every round
    conn.take_received()
    worker._set_idle(conn)
    worker.wait_for_and_dispatch_events(30)
    assert served == [conn, conn]
    assert conn.take_received().startswith(b"GET /next")
    conn.sock.close()
    client.close()


def test_a_connection_is_idle_only_when_it_can_be_used(worker: BufferingWorker) -> None:
    conn, client = connected(worker)
    worker._listen(conn, worker._receive)
    conn.phase = Phase.IN_THREAD
    lock, seen = worker._idle_lock, []

    class Observed:
        def __enter__(self) -> None:
            seen.append(conn.phase)  # the main thread may dispatch an event of this connection now
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            seen.append(conn.phase)
            lock.release()

    worker._idle_lock = Observed()  # type: ignore[assignment]
    worker._set_idle(conn)
    assert seen == [Phase.IN_THREAD, Phase.IDLE]
    assert (list(worker.keepalived_conns), conn.callback) == ([conn], worker.on_client_socket_readable)
    worker._close(worker._oldest_idle())
    client.close()


def test_event_of_a_connection_whose_thread_is_done_in_the_same_round_is_not_lost(worker: BufferingWorker) -> None:
    served: list[ClientConnection] = []
    worker.enqueue_req = served.append  # type: ignore[method-assign,assignment]
    conn, client = connected(worker)
    worker._listen(conn, worker._receive)
    worker._stop_waiting(conn)
    conn.phase = Phase.IN_THREAD
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    worker._leave_to_thread, leave = worker._set_idle, worker._leave_to_thread  # type: ignore[method-assign]
    worker.wait_for_and_dispatch_events(30)  # the thread overtakes the main thread here
    leave(conn)
    assert (served, conn.phase, conn.registered) == ([], Phase.IDLE, EVENT_READ)
    worker.wait_for_and_dispatch_events(30)
    assert served == [conn]
    conn.sock.close()
    client.close()


def test_large_body_that_waited_longer_than_a_body_may_take_is_shed(worker: BufferingWorker) -> None:
    served: list[ClientConnection] = []
    shed: list[ClientConnection] = []
    worker._serve, worker._shed = served.append, shed.append  # type: ignore[method-assign,assignment]
    (late, late_client), (in_time, client) = connected(worker), connected(worker)
    worker._serve_large(late, time.monotonic() - worker.timeouts.body_seconds - 1)
    worker._serve_large(in_time, time.monotonic())
    assert (shed, served) == ([late], [in_time])
    for conn, other in ((late, late_client), (in_time, client)):
        worker._close(conn)
        other.close()
