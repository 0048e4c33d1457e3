"""Does an account at its limit slow its neighbour down? Acme's latency alone, and with globex refused all the while.

    python -m bench.fairness [--seconds 10] [--rate 100]

Real gunicorn, PostgreSQL and Redis. The two are interleaved in short slices, so that a noisy machine is noisy for both;
globex asks at a steady rate, because a flood would compete for the processors rather than for limits.
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
        alone, beside, refused = [], [], 0
        for _ in range(options.seconds):
            alone += _asked(server, acme)
            with _asking(server, globex, options.rate) as counted:
                beside += _asked(server, acme)
            refused += counted.get(429, 0)
    print(f"acme alone              p50 {_p50(alone):6.2f} ms  p99 {_p99(alone):6.2f} ms  ({len(alone)} requests)")
    print(f"beside globex refused   p50 {_p50(beside):6.2f} ms  p99 {_p99(beside):6.2f} ms  ({len(beside)} requests)")
    print(f"globex was refused {refused} times; ratio of p99 {_p99(beside) / _p99(alone):.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="of each of the two")
    parser.add_argument("--rate", type=int, default=100, help="globex's requests a second")
    return parser.parse_args()


def _asked(server: Gunicorn, key: str) -> list[float]:
    """The milliseconds of each of acme's requests in a slice."""
    taken = []
    until = time.perf_counter() + SLICE_SECONDS
    with server.client(key) as client:
        while (began := time.perf_counter()) < until:
            assert client.get("/v1/agents").status_code == httpx2.codes.OK
            taken.append((time.perf_counter() - began) * 1000)
            time.sleep(0.005)
    return taken


@contextmanager
def _asking(server: Gunicorn, key: str, rate: int) -> Iterator[dict[int, int]]:
    """Ask as globex until the block ends; counts the answers by status."""
    counted: dict[int, int] = {}
    ending = threading.Event()

    def ask() -> None:
        with server.client(key) as client:
            while not ending.wait(1 / rate):
                status = client.get("/v1/agents").status_code
                counted[status] = counted.get(status, 0) + 1

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield counted
    finally:
        ending.set()
        asker.join()


def _p50(samples: list[float]) -> float:
    return median(samples)


def _p99(samples: list[float]) -> float:
    return quantiles(samples, n=100)[98]


if __name__ == "__main__":
    main()
