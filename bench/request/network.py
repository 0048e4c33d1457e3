"""Simulates network latency between a server and its clients, in a separate process that delays what clients send.

    python -m bench.request.network <socket of the server> <socket to listen on> <seconds>

All data is delayed equally, so pipelined requests do not add up their delays.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.waiting import wait_until

READ_BYTES = 65_536


@contextlib.contextmanager
def between(server: str, listen_path: Path, seconds: float) -> Iterator[None]:
    """Data sent to the socket `listen_path` reaches `server` after `seconds`. Responses are not delayed."""
    listen_path.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, server, str(listen_path), str(seconds)])
    try:
        wait_until(listen_path.exists, 10)
        yield
    finally:
        process.terminate()
        process.wait(10)


def main(server: str, listen_path: str, seconds: float) -> None:
    """Relay until the process is stopped. One thread uses less CPU time than two that wait for each other."""
    ready = selectors.SelectSelector()  # its timeouts are in microseconds; poll and epoll take milliseconds
    in_flight: deque[Delayed] = deque()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{listen_path}.new")
        listener.listen(64)
        os.rename(f"{listen_path}.new", listen_path)  # the path exists only while the socket listens
        ready.register(listener, selectors.EVENT_READ)
        while True:
            left = max(0.0, in_flight[0].due - time.perf_counter()) if in_flight else None
            for key, _ in ready.select(left):
                if key.fileobj is listener:
                    _connect(listener.accept()[0], server, ready)
                else:
                    _receive(key.fileobj, key.data, seconds, in_flight, ready)
            while in_flight and in_flight[0].due <= time.perf_counter():
                _deliver(in_flight.popleft())


class Delayed(NamedTuple):
    """Data in flight to the server, and the time at which it arrives. Empty data closes the connection."""

    due: float
    upstream: socket.socket
    data: bytes


class Endpoint(NamedTuple):
    """One end of a connection. Data received from it goes to `other`, with or without a delay."""

    other: socket.socket
    is_client: bool


def _connect(client: socket.socket, server: str, ready: selectors.BaseSelector) -> None:
    upstream = socket.socket(socket.AF_UNIX)
    upstream.connect(server)
    ready.register(client, selectors.EVENT_READ, Endpoint(upstream, is_client=True))
    ready.register(upstream, selectors.EVENT_READ, Endpoint(client, is_client=False))


def _receive(
    end: Any, endpoint: Endpoint, seconds: float, in_flight: deque[Delayed], ready: selectors.BaseSelector
) -> None:
    data = b""
    with contextlib.suppress(OSError):
        data = end.recv(READ_BYTES)
    if not data:
        ready.unregister(end)
    if endpoint.is_client:
        in_flight.append(Delayed(time.perf_counter() + seconds, endpoint.other, data))
    else:
        _deliver(Delayed(0.0, endpoint.other, data))


def _deliver(delayed: Delayed) -> None:
    with contextlib.suppress(OSError):
        if delayed.data:
            delayed.upstream.sendall(delayed.data)
        else:
            delayed.upstream.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
