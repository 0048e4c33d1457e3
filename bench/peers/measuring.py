"""CPU time of a server per request, in short slices."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import psutil

from bench.request.client import Connection


@dataclass(frozen=True)
class Slice:
    """What one system did in one slice. `cpu_seconds` is the CPU time of its processes, in user and kernel mode."""

    requests: int
    cpu_seconds: float
    seconds: float = 0.0
    latencies: tuple[float, ...] = ()
    """In seconds, one for each request."""


@dataclass(frozen=True)
class Series:
    """The slices of one system, in the order of the rounds.

    `idle` is the share of a core that the system uses without requests, for timers and background threads. It belongs
    to a second, not to a request: on a busy machine a slice has few requests, and their cost would contain most of it.
    """

    slices: Sequence[Slice]
    idle: float = 0.0

    @property
    def rates(self) -> list[float]:
        """The requests that one core serves in a second beside the work of `idle`, by slice."""
        return [(1 - self.idle) / self._cost([each]) for each in self.slices]

    @property
    def median_rate(self) -> float:
        return median(self.rates)

    @property
    def min_rate(self) -> float:
        return min(self.rates)

    @property
    def cpu_microseconds(self) -> float:
        """CPU time of a request, over all slices."""
        return 1e6 * self._cost(self.slices)

    def _cost(self, slices: Sequence[Slice]) -> float:
        used = sum(each.cpu_seconds - self.idle * each.seconds for each in slices)
        return used / sum(each.requests for each in slices)

    @property
    def p50_milliseconds(self) -> float:
        return 1000 * median(latency for each in self.slices for latency in each.latencies)

    def ratio_to(self, other: Series) -> float:
        """The median of the rounds' ratios: both slices of a round ran with the same other load on the machine."""
        return median(one / two for one, two in zip(self.rates, other.rates, strict=True))


def cpu_seconds(pids: Sequence[int]) -> float:
    """The CPU time that processes used since they started. Linux names the clock of another process by its id."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


def pids_of(pid: int) -> list[int]:
    """A process and its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def measure(connections: Sequence[Connection], pids: Sequence[int], seconds: float) -> Slice:
    """Use all connections concurrently for `seconds`. Raises RuntimeError if a response's status is not 200."""
    latencies: list[list[float]] = [[] for _ in connections]
    failures: list[object] = []
    before, began = cpu_seconds(pids), time.perf_counter()
    until = began + seconds

    def send(connection: Connection, taken: list[float]) -> None:
        try:
            started_at = time.perf_counter()
            while started_at < until:
                status = connection.request()
                if status != 200:
                    failures.append(f"status {status}")
                    return
                now = time.perf_counter()
                taken.append(now - started_at)
                started_at = now
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=send, args=pair) for pair in zip(connections, latencies, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"a request failed: {failures[0]}")
    used, elapsed = cpu_seconds(pids) - before, time.perf_counter() - began
    return Slice(sum(map(len, latencies)), used, elapsed, tuple(latency for each in latencies for latency in each))


def idle_shares(servers: Mapping[str, Sequence[int]], seconds: float) -> dict[str, float]:
    """The share of a core that each server's processes use while no requests are sent."""
    before, began = {name: cpu_seconds(pids) for name, pids in servers.items()}, time.perf_counter()
    time.sleep(seconds)
    elapsed = time.perf_counter() - began
    return {name: (cpu_seconds(pids) - before[name]) / elapsed for name, pids in servers.items()}


@dataclass(frozen=True)
class Target:
    """One row: connections to a server, and its processes."""

    connections: Sequence[Connection]
    pids: Sequence[int]
    before_slice: Callable[[], object] = lambda: None

    def slice(self, seconds: float) -> Slice:
        self.before_slice()
        return measure(self.connections, self.pids, seconds)


def alternate(targets: Mapping[str, Target], rounds: int, seconds: float, warm_up: float) -> dict[str, list[Slice]]:
    """Slices of all rows in turn. Each round has another order, so that no row always follows the same one."""
    for row in targets:
        _slice(targets, row, warm_up)
    rows = list(targets)
    slices: dict[str, list[Slice]] = {row: [] for row in rows}
    orders = random.Random(1)  # noqa: S311  no secret; the same orders in each run
    for _ in range(rounds):
        for row in orders.sample(rows, len(rows)):
            slices[row].append(_slice(targets, row, seconds))
    return slices


def _slice(targets: Mapping[str, Target], row: str, seconds: float) -> Slice:
    try:
        return targets[row].slice(seconds)
    except RuntimeError as error:
        raise RuntimeError(f"{row}: {error}") from error
