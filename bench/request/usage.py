"""The cost of recording usage: the same worker with `KATAVEN_USAGE` on and off, in one run.

    python -m bench.request.usage [--rounds 40] [--requests 300]

Both variants are one gunicorn worker of four threads on one core, with the client on another. Compared is the CPU time
of the worker's process for each request, which includes the background threads, and which other processes on the
machine disturb less than the rate. The variants alternate in short slices, in changing order, and each slice is
compared with its neighbour. Exit status 1 if a request with usage costs over 2 % more: the median of the pairs, less
its standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, pstdev

from bench.harness import shared_harness
from bench.request.client import Connection
from bench.request.handlers import PATH

MOST = 0.02


def compare(servers: Mapping[str, tuple[str, int]], key: str, rounds: int, requests: int) -> bool:
    """`servers` has the URL and the process id of a worker `on` and one `off`."""
    with contextlib.ExitStack() as stack:
        connections = {
            name: stack.enter_context(contextlib.closing(Connection(url, PATH, key)))
            for name, (url, _) in servers.items()
        }
        for connection in connections.values():
            for _ in range(requests):
                connection.request()
        costs: list[float] = []
        spent: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(rounds):
            for name in ("on", "off") if number % 2 else ("off", "on"):
                before = _cpu_seconds(servers[name][1])
                for _ in range(requests):
                    connections[name].request()
                spent[name].append((_cpu_seconds(servers[name][1]) - before) / requests)
            costs.append(spent["on"][-1] / spent["off"][-1] - 1)
    cost, error = median(costs), _error_of_median(costs)
    for name, seconds in spent.items():
        print(f"  CPU time of a request, usage {name:<4} {median(seconds) * 1e6:7.0f} µs")
    passed = cost - error <= MOST
    end = "" if passed else "   ABOVE"
    print(f"  a request with usage costs {cost:+.2%} ± {error:.2%}   at most {MOST:.0%}{end}")
    return passed


def _cpu_seconds(pid: int) -> float:
    """The CPU time of all threads of a process, by the scheduler's own count in nanoseconds."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has just ended
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def worker_of(url: str) -> int:
    """The process id of the only worker of a server on this machine: the child of the process that listens at `url`."""
    port = int(url.rpartition(":")[2])
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if f"PORT={port}".encode() in (process / "environ").read_bytes().split(b"\0"):
                children = (process / "task" / process.name / "children").read_text().split()
                if children:
                    return int(children[0])
    raise RuntimeError(f"no worker listens at {url}")


def _error_of_median(values: Sequence[float]) -> float:
    return 1.2533 * pstdev(values) / math.sqrt(len(values))


def main() -> int:
    from bench.request.__main__ import OURS, _create_agents, _server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--requests", type=int, default=300, help="the requests of each variant in each round")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="kataven-bench-") as name,
        shared_harness(Path(name)) as harness,
        contextlib.ExitStack() as stack,
    ):
        key = _create_agents(harness)
        os.sched_setaffinity(0, {cores[-1]})
        urls = {
            state: stack.enter_context(
                _server(OURS, {**harness.environ, "KATAVEN_USAGE": state}, key, Path(name), cores[0])
            )
            for state in ("on", "off")
        }
        print("the full request, with and without usage")
        servers = {state: (url, worker_of(url)) for state, url in urls.items()}
        passed = compare(servers, key, options.rounds, options.requests)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
