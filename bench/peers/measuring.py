"""CPU time of a server per request, in short slices."""

from __future__ import annotations

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
    latencies: tuple[float, ...] = ()
    """In seconds, one for each request."""

    @property
    def per_cpu_second(self) -> float:
        return self.requests / self.cpu_seconds


@dataclass(frozen=True)
class Series:
    """The slices of one system, in the order of the rounds."""

    slices: Sequence[Slice]

    @property
    def median_rate(self) -> float:
        return median(each.per_cpu_second for each in self.slices)

    @property
    def min_rate(self) -> float:
        return min(each.per_cpu_second for each in self.slices)

    @property
    def cpu_microseconds(self) -> float:
        """CPU time of a request, over all slices."""
        return 1e6 * sum(each.cpu_seconds for each in self.slices) / sum(each.requests for each in self.slices)

    @property
    def p50_milliseconds(self) -> float:
        return 1000 * median(latency for each in self.slices for latency in each.latencies)

    def ratio_to(self, other: Series) -> float:
        """The median of the rounds' ratios: both slices of a round ran with the same other load on the machine."""
        pairs = zip(self.slices, other.slices, strict=True)
        return median(one.per_cpu_second / two.per_cpu_second for one, two in pairs)


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
    before = cpu_seconds(pids)
    until = time.perf_counter() + seconds

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
    used = cpu_seconds(pids) - before
    return Slice(sum(map(len, latencies)), used, tuple(latency for each in latencies for latency in each))


@dataclass(frozen=True)
class Target:
    """One row: connections to a server, and its processes."""

    connections: Sequence[Connection]
    pids: Sequence[int]
    before_slice: Callable[[], object] = lambda: None

    def slice(self, seconds: float) -> Slice:
        self.before_slice()
        return measure(self.connections, self.pids, seconds)


def alternate(targets: Mapping[str, Target], rounds: int, seconds: float, warm_up: float) -> dict[str, Series]:
    """Slices of all rows in turn. Each round starts with another row, so that no row always follows the same one."""
    for row in targets:
        _slice(targets, row, warm_up)
    rows = list(targets)
    slices: dict[str, list[Slice]] = {row: [] for row in rows}
    for number in range(rounds):
        first = number % len(rows)
        for row in rows[first:] + rows[:first]:
            slices[row].append(_slice(targets, row, seconds))
    return {row: Series(each) for row, each in slices.items()}


def _slice(targets: Mapping[str, Target], row: str, seconds: float) -> Slice:
    try:
        return targets[row].slice(seconds)
    except RuntimeError as error:
        raise RuntimeError(f"{row}: {error}") from error
