"""Status of the database servers for the console: probed in the background, so that no page waits for a server.

A page gets the last known status. If it is older than `FRESH_SECONDS`, the page starts a probe in a separate thread. A
page that refreshes every 5 s therefore shows an unresponsive server after 10 s at the latest. It waits
`MAX_WAIT_SECONDS` at most, and only for servers that responded last time or were never probed. At most one probe per
server is in progress, so an unresponsive server costs each process of the Hub one thread and one connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.errors import PoolerUnsuitable
from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.server import DatabaseServer

FRESH_SECONDS = 4.0
STALE_SECONDS = 15.0
"""An older status is shown as unknown while a probe is in progress: no page was open in the meantime."""
DEADLINE_SECONDS = 3.0
"""A server that does not respond to a probe within this time is shown as unavailable."""
MAX_WAIT_SECONDS = 0.1
MAX_SIZES = 10_000
"""The number of database sizes that are kept per server."""
PROBE_SETTINGS = ConnectionSettings(
    application_name="kataven console", connect_timeout_seconds=2, statement_timeout_seconds=2.0
)


@dataclass(frozen=True, slots=True)
class ServerState:
    """The last known status of a server."""

    responds: bool | None = None
    """None if the server was not probed yet."""
    ms: float | None = None
    """Duration of connecting and one query, in milliseconds."""
    connections: int | None = None
    connections_limit: int | None = None
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    """Bytes by database name; None if the database does not exist. Contains only the requested databases."""
    connections_by_database: Mapping[str, int] = field(default_factory=dict)
    """Client connections of each database that has one. Empty if the server does not respond."""
    age: float | None = None
    """Seconds since the last probe ended; None if none has ended."""


CloseConnection = Callable[[], None]
Probe = Callable[[URL, Collection[str], Callable[[CloseConnection], None]], ServerState]
"""Queries a server's status and the sizes of some databases. Passes a function that closes its connection."""


def probe(url: URL, databases: Collection[str], connected: Callable[[CloseConnection], None]) -> ServerState:
    """Raises DBAPIError."""
    began = time.perf_counter()
    with DatabaseServer(url, PROBE_SETTINGS).maintenance() as maintenance:
        connected(maintenance.cutter())
        in_use, limit = maintenance.connections()
        ms = (time.perf_counter() - began) * 1000
        by_database = maintenance.connections_by_database()
        found = maintenance.sizes(list(databases)) if databases else {}
    return ServerState(True, ms, in_use, limit, {name: found.get(name) for name in databases}, by_database)


@dataclass(slots=True)
class _ServerEntry:
    """One server. Protected by the lock of the watch."""

    state: ServerState = field(default_factory=ServerState)
    started_at: float = float("-inf")
    ended_at: float | None = None
    """When the last probe ended."""
    in_progress: threading.Event | None = None
    """Set when the current probe has ended. None if no probe is in progress."""
    close_connection: CloseConnection | None = None


class ServerWatch:
    """The status of the database servers in one process of the Hub. Thread-safe."""

    def __init__(self, probe: Probe = probe, clock: Callable[[], float] = time.monotonic) -> None:
        self._probe_server = probe
        self._clock = clock
        self._lock = threading.Lock()
        self._servers: dict[str, _ServerEntry] = {}

    def states(
        self, urls: Mapping[str, URL], databases: Mapping[str, Collection[str]] | None = None
    ) -> Mapping[str, ServerState]:
        """The status of each listed server by name, with the sizes of the given databases if known.

        Servers that are not in `urls` are removed.
        """
        wanted = databases or {}
        with self._lock:
            for name in self._servers.keys() - urls.keys():
                del self._servers[name]
            awaited = [self._refresh(name, url, wanted.get(name, ())) for name, url in urls.items()]
        until = time.monotonic() + MAX_WAIT_SECONDS
        for ended in awaited:
            if ended is not None:
                ended.wait(max(0.0, until - time.monotonic()))
        with self._lock:
            return {name: self._state_of(self._servers[name]) for name in urls}

    def _refresh(self, name: str, url: URL, databases: Collection[str]) -> threading.Event | None:
        """Start a probe if one is due. Returns the event of a probe that is worth waiting for."""
        server = self._servers.setdefault(name, _ServerEntry())
        known = self._state_of(server)
        if server.in_progress is None:
            old = self._clock() - server.started_at >= FRESH_SECONDS
            if old or (known.responds and not known.sizes.keys() >= set(databases)):
                self._start_probe(server, url, databases)
        return None if known.responds is False else server.in_progress

    def _start_probe(self, server: _ServerEntry, url: URL, databases: Collection[str]) -> None:
        server.started_at, server.in_progress = self._clock(), threading.Event()
        thread = threading.Thread(
            target=self._run_probe, args=(server, url, databases, server.in_progress), name="server-probe", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the process has too many threads: a later page tries again
            server.in_progress = None

    def _run_probe(self, server: _ServerEntry, url: URL, databases: Collection[str], ended: threading.Event) -> None:
        def connected(close_connection: CloseConnection) -> None:
            with self._lock:
                server.close_connection = close_connection

        found = ServerState(responds=False)
        try:
            found = self._probe_server(url, databases, connected)
        except (DBAPIError, PoolerUnsuitable):
            pass  # refused, timed out, or closed: the page shows that the server does not respond
        finally:
            with self._lock:
                server.state = _merged(server.state, found)
                server.ended_at, server.in_progress, server.close_connection = self._clock(), None, None
            ended.set()

    def _state_of(self, server: _ServerEntry) -> ServerState:
        now = self._clock()
        state = server.state if server.ended_at is None else replace(server.state, age=now - server.ended_at)
        overdue = server.in_progress is not None and now - server.started_at >= DEADLINE_SECONDS
        if not overdue:
            is_old = server.in_progress is not None and state.age is not None and state.age >= STALE_SECONDS
            return replace(state, responds=None) if is_old and state.responds else state
        if server.close_connection is not None:  # only this ends the wait for a connected server
            server.close_connection()
        return _merged(state, ServerState(responds=False))


def _merged(before: ServerState, now: ServerState) -> ServerState:
    """`now`, with the sizes that were known before. They change little within a minute."""
    sizes: dict[str, Any] = {**before.sizes, **now.sizes}
    return replace(now, age=before.age, sizes=dict(list(sizes.items())[-MAX_SIZES:]))
