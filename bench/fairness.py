"""Measures the latency of one account (acme) while another account (globex) is at its limit, and without it.

    python -m bench.fairness [--seconds 10] [--rate 100]

Uses real gunicorn, PostgreSQL and Redis. Slices with and without globex alternate, so load on the machine affects both.
Globex sends requests at a fixed rate, because a flood would measure the competition for CPU cores and not for limits.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx2

from bench.harness import shared_harness
from tests.support.gunicorn import Gunicorn

SLICE_SECONDS = 1.0


def main() -> None:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="kataven-bench-"))
    with shared_harness(folder) as harness, Gunicorn(harness.environ, folder / "log", workers=2) as server:
        acme, globex = harness.new_key("acme"), harness.new_key("globex")
        harness.set_limits("globex", per_minute=1)
        baseline, contended, rejected = [], [], 0
        for _ in range(options.seconds):
            baseline += _latencies(server, acme)
            with _load(server, globex, options.rate) as counted:
                contended += _latencies(server, acme)
            rejected += counted.get(429, 0)
    print(f"acme without load       p50 {_p50(baseline):6.2f} ms  p99 {_p99(baseline):6.2f} ms  (n={len(baseline)})")
    print(f"globex at its limit     p50 {_p50(contended):6.2f} ms  p99 {_p99(contended):6.2f} ms  (n={len(contended)})")
    print(f"requests of globex that were rejected: {rejected}; ratio of p99: {_p99(contended) / _p99(baseline):.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="duration with and without load, each (default: 10)")
    parser.add_argument("--rate", type=int, default=100, help="requests of globex per second (default: 100)")
    return parser.parse_args()


def _latencies(server: Gunicorn, key: str) -> list[float]:
    """The latencies of acme's requests in one slice, in milliseconds."""
    taken = []
    until = time.perf_counter() + SLICE_SECONDS
    with server.client(key) as client:
        while (started := time.perf_counter()) < until:
            assert client.get("/v1/agents").status_code == httpx2.codes.OK
            taken.append((time.perf_counter() - started) * 1000)
            time.sleep(0.005)
    return taken


@contextmanager
def _load(server: Gunicorn, key: str, rate: int) -> Iterator[dict[int, int]]:
    """Send requests as globex until the block ends. Counts responses by status."""
    counted: dict[int, int] = {}
    stopping = threading.Event()

    def ask() -> None:
        with server.client(key) as client:
            while not stopping.wait(1 / rate):
                status = client.get("/v1/agents").status_code
                counted[status] = counted.get(status, 0) + 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield counted
    finally:
        stopping.set()
        thread.join()


def _p50(samples: list[float]) -> float:
    return median(samples)


def _p99(samples: list[float]) -> float:
    return quantiles(samples, n=100)[98]


if __name__ == "__main__":
    main()
