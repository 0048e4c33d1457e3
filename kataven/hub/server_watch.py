"""Database servers as the console sees them: asked in the background, with a deadline, so that no page waits for one.

A page gets what is known now. If that is older than `FRESH_SECONDS`, the page begins a probe of its own thread and, for
a server that answered last time or was never asked, waits `GRACE_SECONDS` at most. At most one probe of a server is
under way, so a server that is silent for a day costs each process of the Hub one thread and one connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from kataven.tenancy.pg_connection import ConnectionSettings
from kataven.tenancy.server import DatabaseServer

FRESH_SECONDS = 15.0
DEADLINE_SECONDS = 3.0
"""A server that has not answered a probe within this time counts as one that does not answer."""
MAX_WAIT_SECONDS = 0.1
MAX_SIZES = 10_000
"""Sizes of databases that are remembered of each server."""
PROBE_SETTINGS = ConnectionSettings(
    application_name="kataven console", connect_timeout_seconds=2, statement_timeout_seconds=2.0
)


@dataclass(frozen=True, slots=True)
class ServerState:
    """What is known of a server."""

    responds: bool | None = None
    """None: it was not asked before."""
    ms: float | None = None
    """How long connecting and one query took, in milliseconds."""
    connections: int | None = None
    connections_limit: int | None = None
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    """Bytes by the name of the database; None for one that does not exist. What was not asked for is missing."""


CloseConnection = Callable[[], None]
Probe = Callable[[URL, Collection[str], Callable[[CloseConnection], None]], ServerState]
"""Asks a server for its state and the sizes of some databases, and gives away what ends its connection at once."""


def probe(url: URL, databases: Collection[str], connected: Callable[[CloseConnection], None]) -> ServerState:
    """Raises DBAPIError."""
    began = time.perf_counter()
    with DatabaseServer(url, PROBE_SETTINGS).maintenance() as maintenance:
        connected(maintenance.cutter())
        in_use, limit = maintenance.connections()
        ms = (time.perf_counter() - began) * 1000
        found = maintenance.sizes(list(databases)) if databases else {}
    return ServerState(True, ms, in_use, limit, {name: found.get(name) for name in databases})


@dataclass(slots=True)
class _ServerEntry:
    """One server. Read and written under the lock of the watch."""

    state: ServerState = field(default_factory=ServerState)
    began_at: float = float("-inf")
    in_progress: threading.Event | None = None
    """Set when the probe that is under way has ended; None if none is."""
    cut: CloseConnection | None = None


class ServerWatch:
    """What one process of the Hub knows of the database servers. Any number of threads may look."""

    def __init__(self, ask: Probe = probe, clock: Callable[[], float] = time.monotonic) -> None:
        self._probe_server = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._servers: dict[str, _ServerEntry] = {}

    def look(
        self, urls: Mapping[str, URL], databases: Mapping[str, Collection[str]] | None = None
    ) -> Mapping[str, ServerState]:
        """The state of every server that is listed, by name, with the sizes of some of their databases if known.

        A server that is not among `urls` is forgotten.
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
        """Begin a probe if one is due; the end of one that is worth waiting for."""
        server = self._servers.setdefault(name, _ServerEntry())
        known = self._state_of(server)
        if server.in_progress is None:
            old = self._clock() - server.began_at >= FRESH_SECONDS
            if old or (known.responds and not known.sizes.keys() >= set(databases)):
                self._begin(server, url, databases)
        return None if known.responds is False else server.in_progress

    def _begin(self, server: _ServerEntry, url: URL, databases: Collection[str]) -> None:
        server.began_at, server.in_progress = self._clock(), threading.Event()
        threading.Thread(
            target=self._run_probe, args=(server, url, databases, server.in_progress), name="server-probe", daemon=True
        ).start()

    def _run_probe(self, server: _ServerEntry, url: URL, databases: Collection[str], ended: threading.Event) -> None:
        def connected(cut: CloseConnection) -> None:
            with self._lock:
                server.cut = cut

        found = ServerState(responds=False)
        try:
            found = self._probe_server(url, databases, connected)
        except DBAPIError:
            pass  # refused, silent, or cut: the page says that it does not answer
        finally:
            with self._lock:
                server.state = _merged(server.state, found)
                server.in_progress = server.cut = None
            ended.set()

    def _state_of(self, server: _ServerEntry) -> ServerState:
        overdue = server.in_progress is not None and self._clock() - server.began_at >= DEADLINE_SECONDS
        if not overdue:
            return server.state
        if server.cut is not None:  # it went silent after it had let us in: then only we can end the wait
            server.cut()
        return _merged(server.state, ServerState(responds=False))


def _merged(before: ServerState, now: ServerState) -> ServerState:
    """`now`, with the sizes that were known before: a database does not change its size by much in a minute."""
    sizes: dict[str, Any] = {**before.sizes, **now.sizes}
    return replace(now, sizes=dict(list(sizes.items())[-MAX_SIZES:]))
