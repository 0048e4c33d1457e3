"""A network between a server and its clients, in a process of its own: what a client says arrives later.

    python -m bench.request.network <socket of the server> <socket to listen on> <seconds>

Everything is as much later as everything else, so that what is sent without waiting for an answer costs nobody time.
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
def between(server: str, here: Path, seconds: float) -> Iterator[None]:
    """What is said to the socket `here` reaches `server` so many seconds later; answers come back at once."""
    here.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, server, str(here), str(seconds)])
    try:
        wait_until(here.exists, 10)
        yield
    finally:
        process.terminate()
        process.wait(10)


def main(server: str, here: str, seconds: float) -> None:
    """Relay until the process is ended: one thread, which costs its core less than two that wait for each other."""
    ready = selectors.SelectSelector()  # its timeouts are in microseconds; poll and epoll take milliseconds
    under_way: deque[Said] = deque()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{here}.new")
        listener.listen(64)
        os.rename(f"{here}.new", here)  # it is there only once it listens
        ready.register(listener, selectors.EVENT_READ)
        while True:
            left = max(0.0, under_way[0].due - time.perf_counter()) if under_way else None
            for key, _ in ready.select(left):
                if key.fileobj is listener:
                    _connect(listener.accept()[0], server, ready)
                else:
                    _hear(key.fileobj, key.data, seconds, under_way, ready)
            while under_way and under_way[0].due <= time.perf_counter():
                _deliver(under_way.popleft())


class Said(NamedTuple):
    """What is under way to the server, and when it arrives; no data is the end."""

    due: float
    upstream: socket.socket
    data: bytes


class Line(NamedTuple):
    """One end of a connection: what is heard here goes to `other`, at once or later."""

    other: socket.socket
    is_client: bool


def _connect(client: socket.socket, server: str, ready: selectors.BaseSelector) -> None:
    upstream = socket.socket(socket.AF_UNIX)
    upstream.connect(server)
    ready.register(client, selectors.EVENT_READ, Line(upstream, is_client=True))
    ready.register(upstream, selectors.EVENT_READ, Line(client, is_client=False))


def _hear(end: Any, line: Line, seconds: float, under_way: deque[Said], ready: selectors.BaseSelector) -> None:
    data = b""
    with contextlib.suppress(OSError):
        data = end.recv(READ_BYTES)
    if not data:
        ready.unregister(end)
    if line.is_client:
        under_way.append(Said(time.perf_counter() + seconds, line.other, data))
    else:
        _deliver(Said(0.0, line.other, data))


def _deliver(said: Said) -> None:
    with contextlib.suppress(OSError):
        if said.data:
            said.upstream.sendall(said.data)
        else:
            said.upstream.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
