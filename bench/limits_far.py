"""Measures how many requests are admitted over a limit if Redis replies slowly: on an overloaded machine, or far away.

    python -m bench.limits_far                   runs all scenarios in about three minutes; exits with 1 above a ceiling
    python -m bench.limits_far --world starved   runs one scenario; --seconds, --hogs and --delay-ms configure it

Four worker processes send requests for one account with two windows as fast as possible. Each decision was made at some
time between the worker's call and its return. A window counts only admissions whose whole interval is inside, so every
reported excess is real, even if an overloaded worker reads its clock late.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.ratelimit.limiter import Limiter
from kataven.ratelimit.policy import Quota, QuotaSet, RateLimitKey

WORKERS, THREADS = 4, 4
SCOPE = RateLimitKey("account:{acme}", QuotaSet(Quota("ten-seconds", 60, 10), Quota("thirty-seconds", 150, 30)))
PAUSE_SECONDS = 0.02
"""The pause of a thread between two requests: at most 800 requests per second, 133 times the limit of ten seconds."""
ALLOWED_PERCENT = {"near": 0.0, "far": 2.0, "starved": 2.0, "far and starved": 2.0}

processes = multiprocessing.get_context("spawn")


@dataclass
class Seen:
    """The measurements of one worker."""

    admitted: list[tuple[float, float]] = field(default_factory=list)
    """The times of call and return, on the clock that all processes of a machine share."""
    waits: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    local: int = 0

    def degraded(self, reason: str) -> None:
        self.reasons.append(reason)

    def restored(self, seconds: float) -> None: ...

    def decided_locally(self) -> None:
        self.local += 1


def work(talk: Connection, url: str, seconds: float) -> None:
    """Run one worker for `seconds`."""
    seen = Seen()
    limiter = Limiter.at(url, app="bench", workers=WORKERS, stats=seen)
    limiter.start()
    talk.send("ready")
    talk.recv()
    end = time.monotonic() + seconds

    def ask() -> None:
        while (called := time.monotonic()) < end:
            decision = limiter.windows.take((SCOPE,), "")
            returned = time.monotonic()
            seen.waits.append(returned - called)
            if decision.admitted:
                seen.admitted.append((called, returned))
            time.sleep(PAUSE_SECONDS)

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limiter.stop()
    talk.send(seen)


def hog(seconds: float) -> None:
    """Use one core for `seconds`. A CPU limit of the kernel ends the process in any case."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    parent, end = os.getppid(), time.monotonic() + seconds
    while time.monotonic() < end and os.getppid() == parent:
        for _ in range(100_000):
            pass


@contextmanager
def starving(per_core: int, seconds: float) -> Iterator[None]:
    """Run `per_core` busy processes per core."""
    hogs = [
        processes.Process(target=hog, args=(seconds,), daemon=True)
        for _ in range(per_core * len(os.sched_getaffinity(0)))
    ]
    for process in hogs:
        process.start()
    try:
        yield
    finally:
        for process in hogs:
            process.terminate()
        for process in hogs:
            process.join()


class Relay:
    """A relay to Redis that adds `seconds` to a round trip, half in each direction."""

    def __init__(self, redis_url: str, seconds: float) -> None:
        self._upstream = urlsplit(redis_url).path
        self._delay = seconds / 2
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._pending: deque[tuple[float, socket.socket, bytes]] = deque()
        self._stopping = False
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def run(self) -> None:
        """Relay bytes until the process is terminated."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        while True:
            due = self._pending[0][0] - time.monotonic() if self._pending else 1.0
            for key, _ in self._selector.select(max(0.0, due)):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._take(key.fileobj)
            while self._pending and self._pending[0][0] <= time.monotonic():
                _, target, data = self._pending.popleft()
                with contextlib.suppress(OSError):
                    if data:
                        target.sendall(data)
                    else:
                        target.shutdown(socket.SHUT_WR)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._upstream)
        for one, other in ((client, server), (server, client)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _take(self, source: socket.socket) -> None:
        try:
            data = source.recv(65536)
        except OSError:
            data = b""
        self._pending.append((time.monotonic() + self._delay, self._peers[source], data))
        if not data:
            self._selector.unregister(source)


def relay(talk: Connection, redis_url: str, seconds: float) -> None:
    """Run a relay in this process."""
    relaying = Relay(redis_url, seconds)
    talk.send(relaying.url)
    relaying.run()


@contextmanager
def far(redis_url: str, seconds: float) -> Iterator[str]:
    """A URL of the same Redis with added latency."""
    ours, theirs = processes.Pipe()
    process = processes.Process(target=relay, args=(theirs, redis_url, seconds), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def run_scenario(name: str, seconds: float, per_core: int, delay: float) -> list[Seen]:
    """Run the workers in one scenario."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(EmbeddedRedis(Path(folder), persistent=False)).url
        if "far" in name:
            url = stack.enter_context(far(url, delay))
        pipes = [processes.Pipe() for _ in range(WORKERS)]
        workers = [processes.Process(target=work, args=(theirs, url, seconds), daemon=True) for _, theirs in pipes]
        for worker in workers:
            worker.start()
        for ours, _ in pipes:
            ours.recv()
        if "starved" in name:
            stack.enter_context(starving(per_core, seconds + 30))
        for ours, _ in pipes:
            ours.send("go")
        seen = [ours.recv() for ours, _ in pipes]
        for worker in workers:
            worker.join()
    return seen


def worst(admitted: Sequence[tuple[float, float]], length: float) -> int:
    """The highest number of admissions whose call and return are within `length` seconds."""
    most = 0
    for start, _ in admitted:
        most = max(most, sum(called >= start and returned <= start + length for called, returned in admitted))
    return most


def report(name: str, seen: Sequence[Seen]) -> float:
    """Print one scenario. Returns by how many percent its worst window exceeded the limit."""
    admitted = sorted(one for worker in seen for one in worker.admitted)
    waits = [wait * 1000 for worker in seen for wait in worker.waits]
    cuts = quantiles(waits, n=100)
    over, windows = 0.0, []
    for quota in SCOPE.quota_set.quotas:
        most = worst(admitted, quota.seconds)
        over = max(over, (most - quota.limit) / quota.limit * 100)
        windows.append(f"{most} of {quota.limit} in {quota.seconds} s")
    fallbacks = sum(len(worker.reasons) for worker in seen)
    local = sum(worker.local for worker in seen)
    print(
        f"{name:16} {', '.join(windows):40} over {over:4.1f} %   fallbacks {fallbacks:3}"
        f"   local decisions {local:5} of {len(waits):6}"
        f"   ms p50 {cuts[49]:.1f} p99 {cuts[98]:.0f} max {max(waits):.0f}",
        flush=True,
    )
    for reason in sorted({reason for worker in seen for reason in worker.reasons}):
        print(f"{'':16} {sum(worker.reasons.count(reason) for worker in seen)} x {reason}", flush=True)
    return over


def main() -> None:
    """Run the scenarios. Exits with status 1 above a ceiling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=ALLOWED_PERCENT, action="append", help="the scenario (default: all)")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--hogs", type=int, default=20, help="busy processes per core (default: 20)")
    parser.add_argument("--delay-ms", type=float, default=30)
    options = parser.parse_args()
    failed = []
    for name in options.world or ALLOWED_PERCENT:
        over = report(name, run_scenario(name, options.seconds, options.hogs, options.delay_ms / 1000))
        if over > ALLOWED_PERCENT[name]:
            failed.append(f"{name}: {over:.1f} % over a limit, {ALLOWED_PERCENT[name]:g} % allowed")
    for line in failed:
        print(line, file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
