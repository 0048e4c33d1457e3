"""The cost of an attack: transactions of PostgreSQL, memory and keys of Redis, and log lines."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from sqlalchemy import create_engine, make_url, text

from bench.attacks.connection import HOST, LATE_ADDRESS
from bench.attacks.verdict import LeftBehind

_TRANSACTIONS = text(
    "SELECT datname, xact_commit + xact_rollback FROM pg_stat_database"
    " WHERE datname IN ('kataven_system', 'acme', 'globex')"
)
SHORT_LIVED_SECONDS = 120
"""Keys of rate limit windows expire within a minute or two."""
_LEGITIMATE = tuple(f'"address":"{address}"'.encode() for address in (HOST, LATE_ADDRESS))
_VARIABLE = re.compile(r"[0-9A-Za-z_-]{16,}|\d+(?:\.\d+){3}|\d{4,}")


@dataclass(frozen=True)
class Counters:
    """The counters at one time."""

    transactions: Mapping[str, int]
    """By database. PostgreSQL sessions report them at most once per second."""
    redis_bytes: int
    log_lines: int
    """Log lines, without those of valid clients."""
    log_bytes: int


class Observer:
    """Reads the counters of the servers over separate connections."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        url = make_url(environ["KATAVEN_DATABASE_URL"]).set(database="postgres")
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")
        self._redis: Any = redis.Redis.from_url(environ["KATAVEN_REDIS_URL"])
        self._log = log
        self._read, self._lines, self._bytes = 0, 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()
        self._redis.close()

    def read_counters(self) -> Counters:
        with self._engine.connect() as connection:
            transactions = {row[0]: int(row[1]) for row in connection.execute(_TRANSACTIONS)}
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break  # the line is still being written
                self._read += len(line)
                if not any(address in line for address in _LEGITIMATE):
                    self._lines += 1
                    self._bytes += len(line)
        return Counters(transactions, int(self._redis.info("memory")["used_memory"]), self._lines, self._bytes)

    def keys(self) -> set[bytes]:
        """The names of all keys in Redis."""
        return {*self._redis.scan_iter(count=1000)}

    def left_behind(self, before: set[bytes]) -> list[LeftBehind]:
        """New keys that remain longer than rate limit windows, by kind."""
        found: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        for key in self.keys() - before:
            seconds = self._redis.pttl(key) / 1000
            if seconds == -0.001:  # the key does not expire
                seconds = 365 * 24 * 3600.0
            size = self._redis.memory_usage(key)
            if seconds > SHORT_LIVED_SECONDS and size:
                found[_VARIABLE.sub("*", key.decode(errors="replace"))].append((int(size), seconds))
        return [
            LeftBehind(kind, len(keys), sum(size for size, _ in keys), max(ttl for _, ttl in keys))
            for kind, keys in sorted(found.items())
        ]
