"""What the worker keeps of gunicorn's gthread and relies on: keep-alive, reload, shutdown, worker replacement,
errors."""

from __future__ import annotations

import inspect
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gunicorn.http import wsgi
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import Unreader
from gunicorn.workers import gthread
from gunicorn.workers.gthread import ThreadWorker

from kataven.web.server.worker import BufferingWorker
from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until
from tests.web.server.running import get, read_answer, rest, small, statuses

pytestmark = pytest.mark.processes

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
TOKEN = "sk_live_acme_" + "a" * 49


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with small(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Gunicorn]:
    """A server that the test may stop."""
    with small(tmp_path) as running:
        yield running


def hold(server: Gunicorn, folder: Path) -> tuple[threading.Thread, list[bytes]]:
    """A request that is in flight until `folder/end` exists, and its response."""
    responses: list[bytes] = []
    request = f"GET /hold?{folder} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    thread = threading.Thread(target=lambda: responses.append(server.raw(request)))
    thread.start()
    wait_until((folder / "begun").exists, 30)
    return thread, responses


def test_overridden_methods_exist_in_gthread_with_the_same_signature() -> None:
    for name in (
        "_cap_keepalive",
        "accept",
        "check_config",
        "enqueue_req",
        "get_thread_pool",
        "handle",
        "handle_error",
        "handle_quit",
        "handle_request",
        "init_process",
        "murder_keepalived",
        "murder_pending",
        "on_client_socket_readable",
        "run",
    ):
        ours, theirs = getattr(BufferingWorker, name), getattr(ThreadWorker, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name


def test_event_loop_of_gthread_calls_the_overridden_methods() -> None:
    loop = inspect.getsource(ThreadWorker.run)
    for called in ("set_accept_enabled", "murder_keepalived()", "murder_pending()", "nr_conns", "_cap_keepalive"):
        assert called in loop
    assert gthread.STOP_KEEPALIVE_LINGER > 0
    assert {"req", "sock", "client", "server", "cfg", "response_class"} <= set(
        inspect.signature(wsgi.create).parameters
    )
    assert {"send_headers", "_emit_body", "default_headers", "should_close", "force_close"} <= set(dir(wsgi.Response))
    assert {"unread", "take_buffered"} <= set(dir(Unreader))
    assert Body(LengthReader(Unreader(), 3)).failed is False
    assert LengthReader(Unreader(), 3).length == 3


def test_connection_serves_several_requests(server: Gunicorn) -> None:
    with server.connect() as connection:
        for _ in range(5):
            connection.sendall(GET)
            status, headers, _ = read_answer(connection)
            assert (status, headers["connection"]) == (200, "keep-alive")


def test_pipelined_requests_are_answered_in_order(server: Gunicorn) -> None:
    posts = b"".join(
        b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % n + b"x" * n for n in (3, 0, 5_000)
    )
    last = (
        b"POST /read HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    )
    responses = server.raw(posts + last)
    assert statuses(responses) == [200] * 4
    assert [part.partition(b"\r\n\r\n")[2] for part in responses.split(b"HTTP/1.1 ")[1:]] == [b"3", b"0", b"5000", b"2"]


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
    ids=["1.0", "close"],
)
def test_connection_close_is_respected(server: Gunicorn, request_bytes: bytes) -> None:
    response = server.raw(request_bytes)
    assert statuses(response.replace(b"HTTP/1.0", b"HTTP/1.1")) == [200]
    assert b"Connection: close\r\n" in response


def test_idle_connection_is_closed_after_the_keepalive_timeout(tmp_path: Path) -> None:
    with small(tmp_path, KEEPALIVE="1") as server, server.connect() as connection:
        connection.sendall(GET)
        assert read_answer(connection)[0] == 200
        assert rest(connection) == b""


def test_head_has_no_body_and_a_stream_is_chunked(server: Gunicorn) -> None:
    assert server.raw(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"\r\n\r\n")
    streamed = server.raw(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert streamed.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def test_response_that_fails_midway_is_not_terminated(server: Gunicorn) -> None:
    response = server.raw(b"GET /half HTTP/1.1\r\nHost: x\r\n\r\n")
    assert response.endswith(b"3\r\none\r\n")
    assert statuses(response) == [200]


def test_application_error_is_a_500_without_details(server: Gunicorn) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET /fail HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, body = read_answer(connection)
    assert (status, headers["connection"]) == (500, "close")
    problem = json.loads(body)
    assert problem["code"] == "internal_error"
    line = next(line for line in server.log.read_text().splitlines() if problem["request_id"] in line)
    assert "RuntimeError" in json.loads(line)["traceback"]
    assert TOKEN not in line


@pytest.mark.parametrize("length", [5, 100_000], ids=["small", "large"])
def test_expect_100_continue_is_answered_once(server: Gunicorn, length: int) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /read HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % length
        )
        go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert connection.recv(len(go_on), 256) == go_on  # MSG_WAITALL
        connection.sendall(b"x" * length)
        response = rest(connection)
    assert statuses(response) == [200]
    assert response.endswith(b"\r\n\r\n%d" % length)


def test_in_flight_request_completes_at_shutdown(own: Gunicorn, tmp_path: Path) -> None:
    with own.connect() as idle, own.connect() as half:
        idle.sendall(GET)
        assert read_answer(idle)[0] == 200
        thread, responses = hold(own, tmp_path)
        half.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        get(own, "/")  # half of the request has arrived by now
        own.process.terminate()
        assert rest(idle) == b""
        half.sendall(b"cd")
        status, headers, body = read_answer(half)
        assert (status, headers["connection"], body) == (200, "close", b"4")
        (tmp_path / "end").touch()
        thread.join(30)
    assert statuses(responses[0]) == [200]
    assert own.process.wait(30) == 0


def test_silent_connection_does_not_delay_shutdown(own: Gunicorn) -> None:
    with own.connect() as connection:
        get(own, "/")
        own.process.terminate()
        assert rest(connection) == b""
        assert own.process.wait(30) == 0


def test_reload_completes_in_flight_requests_and_continues(own: Gunicorn, tmp_path: Path) -> None:
    before = get(own, "/")
    thread, responses = hold(own, tmp_path)
    own.process.send_signal(signal.SIGHUP)
    wait_until(lambda: get(own, "/") != before, 30, own.log.read_text)
    (tmp_path / "end").touch()
    thread.join(30)
    assert statuses(responses[0]) == [200]


def test_worker_is_replaced_after_max_requests_without_losing_any(tmp_path: Path) -> None:
    with small(tmp_path, MAX_REQUESTS="10") as server:
        pids = [get(server, "/") for _ in range(40)]
    assert all(pid.isdigit() for pid in pids)
    assert len(set(pids)) >= 3


def test_sigquit_stops_the_server_immediately(own: Gunicorn, tmp_path: Path) -> None:
    thread, _ = hold(own, tmp_path)
    own.process.send_signal(signal.SIGQUIT)
    (tmp_path / "end").touch()
    thread.join(30)
    own.process.wait(30)


def test_worker_exits_when_its_master_is_gone(own: Gunicorn) -> None:
    (pid,) = own.worker_pids()
    own.process.kill()
    own.process.wait()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 30)


def test_client_that_never_closes_does_not_delay_others(server: Gunicorn) -> None:
    connections = [server.connect() for _ in range(40)]
    for connection in connections:  # the server closes its side, and each client keeps its side open
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert get(server, "/").isdigit()
    for connection in connections:
        assert rest(connection).startswith(b"HTTP/1.0 200")
        connection.close()
