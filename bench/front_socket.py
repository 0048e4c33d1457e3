"""What our worker class costs a plain request, beside gunicorn's gthread: `python -m bench.front_socket`.

One worker of two threads each, with an application that does next to nothing, so that the server is nearly all there
is. The two take turns in short rounds; the median of the rounds' ratios is what counts, since a busy machine is busy
for both.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.support.gunicorn import Gunicorn
from tests.web.server.running import read_answer, small

ROUNDS = 40
REQUESTS = 100
GET = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"a" * 60 + b"\r\nAccept: */*\r\n\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000


def kept(server: Gunicorn, request: bytes) -> float:
    """Seconds for a round of requests on one connection."""
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        for _ in range(REQUESTS):
            connection.sendall(request)
            read_answer(connection)
        return time.perf_counter() - started


def new(server: Gunicorn, request: bytes) -> float:
    """Seconds for a round of requests, each on a connection of its own."""
    started = time.perf_counter()
    for _ in range(REQUESTS):
        with server.connect() as connection:
            connection.sendall(request)
            read_answer(connection)
    return time.perf_counter() - started


CASES: dict[str, tuple[Callable[[Gunicorn, bytes], float], bytes]] = {
    "GET, kept connection": (kept, GET),
    "POST of 2 kB, kept connection": (kept, POST),
    "GET, new connection": (new, GET),
}


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {}
        for name, worker_class in {"ours": "kataven.web.server.worker.BufferingWorker", "gthread": "gthread"}.items():
            (folder / name).mkdir()
            servers[name] = stack.enter_context(small(folder / name, WORKER_CLASS=worker_class))
        for case, (measure, request) in CASES.items():
            ratios, ours, theirs = [], [], []
            for turn in range(ROUNDS):
                order = ("ours", "gthread") if turn % 2 else ("gthread", "ours")
                seconds = {name: measure(servers[name], request) for name in order}
                ratios.append(seconds["ours"] / seconds["gthread"])
                ours.append(seconds["ours"] / REQUESTS * 1e6)
                theirs.append(seconds["gthread"] / REQUESTS * 1e6)
            print(
                f"{case}: ours/gthread {statistics.median(ratios):.2f} "
                f"(median {statistics.median(ours):.0f} µs beside {statistics.median(theirs):.0f} µs)"
            )


if __name__ == "__main__":
    main()
