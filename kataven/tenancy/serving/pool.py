"""Bulkheads: one small connection pool per account, and one connection budget for all of them.

The budget counts every connection of a registry against one limit. It records which connections are idle and since
when, so that the longest idle connection of any account is closed when another account needs one. A retired pool closes
its idle connections at once and the others when they are returned; a connection in use is never closed. One lock
guards all state. Code that holds it does a few dictionary operations, and no network I/O.
"""

import contextlib
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

from sqlalchemy.pool import ConnectionPoolEntry, Pool

from kataven.tenancy.pg_connection import PgConnection, is_closed_by_server
from kataven.tenancy.serving.slots import HostSlots

Connected = TypeVar("Connected", bound=PgConnection)

_HOST_POLL_SECONDS = 0.02  # another process can't notify this one when it releases a slot


class NoConnection(Exception):
    """Raised when no connection is available in time. The registry adds the account."""


class Idle(NamedTuple):
    """An idle connection: its pool, and the time since when."""

    pool: "BulkheadPool"
    since: float


class ConnectionBudget:
    """Counts every connection of a registry. Call the methods with `changed` held, unless their docstring differs."""

    def __init__(self, limit: int, host_slots: HostSlots | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.clock = clock
        self.limit = limit
        self.host_slots = host_slots
        self.open = 0
        self.lingering: list[socket.socket] = []  # closed here, not yet by the server: each still has a session there
        self.idle: OrderedDict[ConnectionPoolEntry, Idle] = OrderedDict()  # the longest idle first
        self.connections: WeakSet[PgConnection] = WeakSet()
        self.waits = 0
        self.waited_seconds = 0.0
        self.displaced = 0
        self.cut = 0
        self._starts = threading.local()

    def session_starts(self) -> None:
        """This thread starts to wait for a connection. Its hold counts from now. Call it without the lock.

        Otherwise the waits for a connection, for a new one and for its statements would add up.
        """
        self._starts.at = self.clock()

    @property
    def session_started(self) -> float:
        """When this thread's latest session started."""
        started: float | None = getattr(self._starts, "at", None)
        return self.clock() if started is None else started

    def connect(self, dsn: str, factory: type[Connected], **options: Any) -> Connected:
        """psycopg2's connection factory. Call it without the lock, after `claim` or `displace`.

        Raises NoConnection if the connection that was closed to free capacity still exists on the server.
        """
        with self.changed:
            if self._sessions() > (self.limit if self.host_slots is None else min(self.limit, self.host_slots.held)):
                raise NoConnection("the server still holds connections that were closed")
        connection = factory(dsn, lingering=self.lingering.append, **options)
        with self.changed:
            connection.busy_since = self.session_started
            self.connections.add(connection)
        return connection

    def claim(self) -> bool:
        """Count one more connection if the limits of this process and of the host allow it."""
        if self._sessions() >= self.limit or not (self.host_slots is None or self.host_slots.take()):
            return False
        self.open += 1
        return True

    def displace(self) -> ConnectionPoolEntry | None:
        """Remove the longest idle connection from its pool. The caller closes it and uses its capacity."""
        if not self.idle:
            return None
        record, (pool, _) = self.idle.popitem(last=False)
        pool.remove(record)
        self.displaced += 1
        return record

    def release(self) -> None:
        """Count one connection less, after it has been closed."""
        self.open -= 1
        self.release_slots()

    def release_slots(self) -> None:
        """Release the host slots that no connection needs any more."""
        sessions = self._sessions()
        while self.host_slots is not None and self.host_slots.held > sessions:
            self.host_slots.release()

    def _sessions(self) -> int:
        """The number of sessions on the servers: open connections, and closed ones whose session still exists."""
        for closed in [sock for sock in self.lingering if is_closed_by_server(sock)]:
            self.lingering.remove(closed)
            closed.close()
        return self.open + len(self.lingering)

    def idle_before(self, moment: float) -> list[ConnectionPoolEntry]:
        """Remove connections that have been idle since before `moment` from their pools, for `discard`."""
        taken = []
        for record, (pool, since) in list(self.idle.items()):
            if since >= moment:
                break
            del self.idle[record]
            pool.remove(record)
            taken.append(record)
        return taken

    def discard(self, records: list[ConnectionPoolEntry]) -> None:
        """Close these connections and release their capacity. Call it without the lock."""
        for record in records:
            record.close()
            with self.changed:
                self.release()
                self.changed.notify_all()

    def cut_overdue(self, moment: float) -> int:
        """Cut every connection that has been in use since before `moment`: its thread gets a disconnect error."""
        overdue = [one for one in self.connections if one.busy_since is not None and one.busy_since < moment]
        for connection in overdue:
            connection.busy_since = None
            connection.cut()
        self.cut += len(overdue)
        return len(overdue)


class Checkout(NamedTuple):
    """The result of a checkout: an idle connection, or capacity for a new one, possibly that of a displaced one."""

    idle: ConnectionPoolEntry | None = None
    displaced: ConnectionPoolEntry | None = None


class BulkheadPool(Pool):
    """At most `size` connections to one account's database. `wait_seconds` limits the wait for a connection.

    If all connections are in use and none was returned for `wait_seconds`, requests are rejected immediately instead of
    occupying the worker's threads.
    """

    def __init__(self, creator: Any, budget: ConnectionBudget, size: int, wait_seconds: float, **options: Any) -> None:
        super().__init__(creator, **options)
        self._budget = budget
        self._size = size
        self._wait_seconds = wait_seconds
        self._idle: list[ConnectionPoolEntry] = []  # last in, first out: the others age and can be displaced
        self._retired = False
        self._last_activity = budget.clock()
        self.open = 0

    def retire(self) -> None:
        """Close idle connections now, and those in use when they are returned."""
        with self._budget.changed:
            self._retired = True
            idle = list(self._idle)
            for record in idle:
                del self._budget.idle[record]
                self.remove(record)
        self._budget.discard(idle)

    dispose = retire  # Engine.dispose() calls it, and then replaces the pool by recreate()

    def recreate(self) -> "BulkheadPool":
        """A new pool with the same settings."""
        return BulkheadPool(
            self._creator,
            self._budget,
            self._size,
            self._wait_seconds,
            pre_ping=self._pre_ping,
            dialect=self._dialect,
            _dispatch=self.dispatch,
        )

    def status(self) -> str:
        """One line for logs and debugging."""
        return f"{self.open} of {self._size} connections open, {len(self._idle)} idle"

    def remove(self, record: ConnectionPoolEntry) -> None:
        """Remove an idle connection that the budget no longer lists. Called with the lock held."""
        self._idle.remove(record)
        self.open -= 1

    def _do_get(self) -> ConnectionPoolEntry:
        with self._budget.changed:
            checkout = self._check_out() or self._queue()
        if checkout.idle is not None:
            return checkout.idle
        try:
            if checkout.displaced is not None:
                checkout.displaced.close()
            return self._create_connection()
        except BaseException:
            with self._budget.changed:
                self.open -= 1
                self._budget.release()
                self._budget.changed.notify_all()
            raise

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        budget, connection = self._budget, _connection_of(record)
        with budget.changed:
            self._last_activity = budget.clock()
            if connection is not None:
                connection.busy_since = None
                if not self._retired:
                    self._idle.append(record)
                    budget.idle[record] = Idle(self, self._last_activity)
                    budget.changed.notify_all()
                    return
            self.open -= 1
        budget.discard([record])

    def _check_out(self) -> Checkout | None:
        """An idle connection, or capacity for a new one; None if neither exists. Called with the lock held."""
        budget, displaced = self._budget, None
        if self._idle:
            return Checkout(idle=self._take_idle())
        if self.open >= self._size:
            return None
        if not budget.claim():
            displaced = budget.displace()
            if displaced is None:
                return None
        self.open += 1
        self._last_activity = budget.clock()
        return Checkout(displaced=displaced)

    def _take_idle(self) -> ConnectionPoolEntry:
        record = self._idle.pop()
        del self._budget.idle[record]
        self._last_activity = self._budget.clock()
        if connection := _connection_of(record):
            connection.busy_since = self._budget.session_started
        return record

    def _queue(self) -> Checkout:
        """Wait for a connection. Called with the lock held, which is released while it waits.

        Raises NoConnection if none is available in time.
        """
        budget, started = self._budget, self._budget.clock()
        if self.open >= self._size and started - self._last_activity > self._wait_seconds:
            raise NoConnection("all its connections are in use, and none was returned in time")
        host = budget.host_slots if self.open < self._size else None
        budget.waits += 1
        with host.waiting() if host is not None else contextlib.nullcontext():
            try:
                while (left := started + self._wait_seconds - budget.clock()) > 0:
                    budget.changed.wait(left if host is None else min(left, _HOST_POLL_SECONDS))
                    if checkout := self._check_out():
                        return checkout
            finally:
                budget.waited_seconds += budget.clock() - started
        raise NoConnection("no connection became available")


def _connection_of(record: ConnectionPoolEntry) -> PgConnection | None:
    """The record's connection; None after a disconnect, until the record connects again."""
    connection: Any = record.dbapi_connection
    return connection if isinstance(connection, PgConnection) else None
