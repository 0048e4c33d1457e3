"""How the API behaves under load, past its capacity included: an open loop, so that a slow response delays no request.

    python -m bench.load [--seconds 8] [--rates 30,60,90,130] [--path /v1/verify]

One worker of eight threads on one core, the client on another. First the capacity is measured with a closed loop. Then
requests (`GET /v1/agents`, ten agents, or `--path`) start at random moments (Poisson) at the given percentages of it. A
latency is measured from the moment at which the request should have started, so that waiting for a connection counts
(no coordinated omission). A client that waits opens another connection, up to 256.

Goodput is the number of 200 responses per second. Exit status 1 if that at the highest rate is less than 0.8 of that at
the highest rate below 100 %, or if a response is neither 200 nor 503.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import random
import selectors
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bench.harness import shared_harness
from bench.request.client import Connection, requests_per_second
from bench.request.handlers import PATH
from tests.support.app_harness import AppHarness
from tests.support.gunicorn import Gunicorn

THREADS = 8
AGENTS = 10
CLOSED_LOOP_CONNECTIONS = 16
MAX_CONNECTIONS = 256
FLOOR = 0.8
SEED = 1


@dataclass
class Outcome:
    """What the client saw at one rate."""

    percent: int
    offered: float
    """Requests per second."""
    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    """Connections that ended without a response."""
    latencies: list[float] = field(default_factory=list)
    """Of the responses with status 200, in seconds."""

    @property
    def goodput(self) -> float:
        return self.statuses[200] / self.seconds

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class Exchange:
    """One connection. It has at most one request at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, timeout=20)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.due = 0.0
        self.received = b""

    def read(self) -> int | None:
        """The status of a complete response; None if bytes are missing. Raises ConnectionError at the end."""
        try:
            data = self.sock.recv(65_536)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionError
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return None
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        self.received = b""
        return int(head[9:12])


class OpenLoop:
    """Sends requests at given moments, however many are unanswered."""

    def __init__(self, url: str, path: str, key: str) -> None:
        address = urlsplit(url)
        self._address = address.hostname or "", address.port or 0
        self._bytes = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        self._poller = selectors.DefaultSelector()
        self._free: list[Exchange] = []
        self._open = 0

    def run(self, percent: int, rate: float, seconds: float) -> Outcome:
        outcome = Outcome(percent, rate, seconds)
        due = self._moments(rate, seconds)
        waiting: list[float] = []
        started = time.perf_counter()
        deadline = started + seconds + 30
        while due or waiting or self._open > len(self._free):
            now = time.perf_counter()
            if now > deadline:
                outcome.lost += self._open - len(self._free) + len(waiting)
                break
            while due and started + due[0] <= now:
                waiting.append(started + heapq.heappop(due))
            while waiting and self._start(waiting[0], outcome):
                waiting.pop(0)
            pause = max(0.0, started + due[0] - now) if due and not waiting else 0.001 if waiting else 0.05
            for ready, _ in self._poller.select(min(pause, 0.05)):
                self._receive(ready.data, outcome)
        return outcome

    def close(self) -> None:
        for registered in list(self._poller.get_map().values()):
            registered.data.sock.close()
        self._poller.close()

    @staticmethod
    def _moments(rate: float, seconds: float) -> list[float]:
        numbers, moments, now = random.Random(SEED), [], 0.0  # noqa: S311  no secret
        while (now := now + numbers.expovariate(rate)) < seconds:
            moments.append(now)
        return moments

    def _start(self, due: float, outcome: Outcome) -> bool:
        while self._free:
            exchange = self._free.pop()
            try:
                exchange.sock.send(self._bytes)
            except OSError:
                self._close(exchange)
                continue
            exchange.due = due
            return True
        if self._open >= MAX_CONNECTIONS:
            return False
        try:
            exchange = Exchange(self._address)
        except OSError:
            outcome.lost += 1
            return True
        self._open += 1
        self._poller.register(exchange.sock, selectors.EVENT_READ, exchange)
        exchange.due = due
        exchange.sock.send(self._bytes)
        return True

    def _receive(self, exchange: Exchange, outcome: Outcome) -> None:
        try:
            status = exchange.read()
        except OSError:
            if exchange not in self._free:
                outcome.lost += 1
            self._close(exchange)
            return
        if status is None:
            return
        outcome.statuses[status] += 1
        if status == 200:
            outcome.latencies.append(time.perf_counter() - exchange.due)
            self._free.append(exchange)
        else:  # the server closes the connection
            self._close(exchange)

    def _close(self, exchange: Exchange) -> None:
        if exchange in self._free:
            self._free.remove(exchange)
        self._poller.unregister(exchange.sock)
        exchange.sock.close()
        self._open -= 1


def main() -> int:
    options = _options()
    cores = sorted(os.sched_getaffinity(0))
    print(f"{len(cores)} cores, load average before: {os.getloadavg()[0]:.1f}")
    with (
        tempfile.TemporaryDirectory(prefix="kataven-bench-") as name,
        shared_harness(Path(name)) as harness,
        _server(harness, Path(name), cores[0]) as server,
    ):
        key = _create_agents(harness)
        os.sched_setaffinity(0, {cores[-1]})
        capacity = _capacity(server.url, options.path, key)
        print(f"capacity, closed loop of {CLOSED_LOOP_CONNECTIONS} connections: {capacity:.0f} requests per second\n")
        print("offered          goodput     p50     p99   p99.9 ms   503/s   other   memory of the worker")
        outcomes = []
        for percent in options.rates:
            loop = OpenLoop(server.url, options.path, key)
            outcome = loop.run(percent, capacity * percent / 100, options.seconds)
            loop.close()
            outcomes.append(outcome)
            _print(outcome, _memory(server.worker_pids()[0]))
            time.sleep(2)  # the server finishes what it has
    return 0 if _holds(outcomes) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rates", type=lambda text: [int(one) for one in text.split(",")], default=[30, 60, 90, 130])
    parser.add_argument("--path", default=PATH, help=f"what is requested (default: {PATH})")
    return parser.parse_args()


@contextlib.contextmanager
def _server(harness: AppHarness, folder: Path, core: int) -> Iterator[Gunicorn]:
    environ = {**harness.environ, "WORKERS": "1", "THREADS": str(THREADS), "MAX_REQUESTS": "0"}
    with Gunicorn(environ, folder / "api.log") as server:
        for thread in Path(f"/proc/{server.worker_pids()[0]}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
        yield server


def _create_agents(harness: AppHarness) -> str:
    key = harness.new_key("acme")
    for number in range(AGENTS):
        agent = {"name": f"Agent {number}", "system_prompt": "x" * 40, "greeting_message": "Good day."}
        assert harness.bearer(key).post("/v1/agents", agent).status_code == 201
    return key


def _capacity(url: str, path: str, key: str) -> float:
    connections = [Connection(url, path, key) for _ in range(CLOSED_LOOP_CONNECTIONS)]
    with contextlib.ExitStack() as stack:
        for connection in connections:
            stack.enter_context(contextlib.closing(connection))
        requests_per_second(connections, 1.0)
        return requests_per_second(connections, 3.0)


def _memory(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _print(outcome: Outcome, memory: float) -> None:
    latencies = " ".join(f"{outcome.percentile(share):7.1f}" for share in (0.5, 0.99, 0.999))
    other = sum(count for status, count in outcome.statuses.items() if status not in (200, 503)) + outcome.lost
    print(
        f"{outcome.percent:4} %  {outcome.offered:6.0f}/s  {outcome.goodput:6.0f}/s {latencies}    "
        f"{outcome.statuses[503] / outcome.seconds:6.1f} {other:7} {memory:8.0f} MB"
    )


def _holds(outcomes: list[Outcome]) -> bool:
    other = sum(
        count for outcome in outcomes for status, count in outcome.statuses.items() if status not in (200, 503)
    ) + sum(outcome.lost for outcome in outcomes)
    below = [outcome for outcome in outcomes if outcome.percent < 100]
    above = [outcome for outcome in outcomes if outcome.percent > 100]
    if not below or not above:
        return other == 0
    ratio = above[-1].goodput / below[-1].goodput
    print(f"\ngoodput at {above[-1].percent} % next to {below[-1].percent} %: {ratio:.2f}   floor {FLOOR:.2f}")
    return ratio >= FLOOR and other == 0


if __name__ == "__main__":
    sys.exit(main())
