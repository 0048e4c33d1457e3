"""Fetching over real sockets from servers that are slow, send large documents or redirect."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from kataven.identity.fetch import MAX_BODY_BYTES, FetchFailed, HttpFetcher

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


class RawServer:
    """Serves connections one after the other with the bytes and the speed that a test defines."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.answer: Callable[[socket.socket], object] = lambda connection: None
        self.requests: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/keys"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def send(self, *parts: bytes) -> None:
        self.answer = lambda connection: connection.sendall(b"".join(parts))

    def drip(self, start: bytes, drop: bytes) -> None:
        """Send `start`, then `drop` repeatedly, until the client disconnects or the test ends."""

        def answer(connection: socket.socket) -> None:
            connection.sendall(start)
            while not self._stop.wait(0.01):
                connection.sendall(drop)

        self.answer = answer

    def say_nothing(self) -> None:
        self.answer = lambda connection: connection.recv(1)

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with closing(connection):
                try:
                    self.requests.append(connection.recv(65536))
                    self.answer(connection)
                except OSError:
                    continue


@pytest.fixture
def server() -> Iterator[RawServer]:
    running = RawServer()
    running.start()
    yield running
    running.stop()


def get(server: RawServer, timeout_seconds: float = 30.0) -> bytes:
    return HttpFetcher().get(server.url, timeout_seconds=timeout_seconds)


def test_document_is_fetched(server: RawServer) -> None:
    server.send(OK + b"Content-Length: 2\r\n\r\n{}")
    assert get(server) == b"{}"
    assert b"GET /keys HTTP/1.1" in server.requests[0]


def test_chunked_document_is_fetched(server: RawServer) -> None:
    server.send(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n")
    assert get(server) == b"{}"


def test_each_fetch_opens_a_new_connection(server: RawServer) -> None:
    server.send(OK + b"Content-Length: 2\r\n\r\n{}")
    fetcher = HttpFetcher()
    for _ in range(3):
        assert fetcher.get(server.url, timeout_seconds=30) == b"{}"
    assert len(server.requests) == 3


# These servers send as long as the client reads, so only a limit on the whole request ends it.
@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"Content-Length: 400000\r\n\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["headers", "interim answers", "body", "chunks"],
)
def test_slow_response_is_aborted_at_the_deadline(server: RawServer, start: bytes, drop: bytes) -> None:
    server.drip(start, drop)
    with pytest.raises(FetchFailed):
        get(server, timeout_seconds=0.3)


def test_silent_server_is_aborted_at_the_deadline(server: RawServer) -> None:
    server.say_nothing()
    with pytest.raises(FetchFailed, match="no complete response"):
        get(server, timeout_seconds=0.2)


def test_fetch_without_remaining_time_fails(server: RawServer) -> None:
    with pytest.raises(FetchFailed, match="no complete response"):
        get(server, timeout_seconds=0.0)


def test_document_of_the_maximum_size_is_accepted(server: RawServer) -> None:
    server.send(OK + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES, b" " * MAX_BODY_BYTES)
    assert len(get(server)) == MAX_BODY_BYTES


@pytest.mark.parametrize(
    "headers", [b"Content-Length: 99999999999\r\n\r\n", b"\r\n"], ids=["announced", "not announced"]
)
def test_larger_document_is_aborted(server: RawServer, headers: bytes) -> None:
    server.drip(OK + headers, b" " * 65536)
    with pytest.raises(FetchFailed, match="more than"):
        get(server)


def test_compressed_response_is_not_decompressed(server: RawServer) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    server.send(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb), bomb)
    assert get(server) == bomb
    assert b"accept-encoding: identity" in server.requests[0].lower()


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"307 Temporary Redirect", b"308 Permanent Redirect"])
def test_redirects_are_not_followed(server: RawServer, status: bytes) -> None:
    place = server.url.encode()
    server.send(b"HTTP/1.1 " + status + b"\r\nLocation: " + place + b"\r\nContent-Length: 2\r\n\r\n{}")
    with pytest.raises(FetchFailed, match="status 30"):
        get(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"404 Not Found", b"500 Oops"])
def test_other_status_codes_fail(server: RawServer, status: bytes) -> None:
    server.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(FetchFailed, match="status"):
        get(server)


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", b"\x16\x03\x01"],
    ids=["nothing", "another protocol", "cut", "TLS"],
)
def test_broken_responses_fail(server: RawServer, answer: bytes) -> None:
    server.send(answer)
    with pytest.raises(FetchFailed):
        get(server)


def test_refused_connection_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(FetchFailed, match="ConnectError"):
        HttpFetcher().get(f"http://127.0.0.1:{port}/", timeout_seconds=30)


def test_proxy_settings_of_the_environment_are_ignored(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    server.send(OK + b"Content-Length: 2\r\n\r\n{}")
    assert get(server) == b"{}"
