"""Patience with a server that says nothing: a statement timeout is the server's, so it is silent when the server is."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from psycopg2.extensions import cursor as Psycopg2Cursor  # noqa: N812

from kataven.tenancy.pg_connection import PgConnection

_LOOKS_PER_PATIENCE = 10


class WatchedWire(PgConnection):
    """A connection that remembers since when it has been waiting for an answer."""

    waiting_since: float | None = None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        self.waiting_since = time.monotonic()
        try:
            yield
        finally:
            self.waiting_since = None

    def cursor(self, *args: Any, **options: Any) -> Any:
        return super().cursor(*args, **{"cursor_factory": _Cursor, **options})

    def commit(self) -> None:
        with self.waiting():
            super().commit()

    def rollback(self) -> None:
        with self.waiting():
            super().rollback()


class _Cursor(Psycopg2Cursor):
    connection: WatchedWire

    def execute(self, *args: Any, **options: Any) -> None:
        with self.connection.waiting():
            super().execute(*args, **options)


class Watch:
    """Cuts connections whose server has not answered for `patience_seconds`: whoever waits gets a disconnect.

    One thread looks, from the first connection on. A forked child needs a watch of its own: to cut its copies of the
    parent's connections would cut the parent's sockets.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._wires: WeakSet[WatchedWire] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def connect(self, dsn: str, **options: Any) -> WatchedWire:
        """psycopg2's connection factory."""
        wire = WatchedWire(dsn, **options)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_on, name="system-watch", daemon=True)
                self._thread.start()
            self._wires.add(wire)
        return wire

    def _look_on(self) -> None:
        while True:
            time.sleep(self._patience_seconds / _LOOKS_PER_PATIENCE)
            with self._lock:
                wires = list(self._wires)
            for wire in wires:
                since = wire.waiting_since
                if since is not None and time.monotonic() - since > self._patience_seconds:
                    wire.waiting_since = None
                    wire.cut()
