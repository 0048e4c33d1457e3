"""The bulkheads: one small pool per account, one ledger over all of them.

The ledger counts every connection of a registry against one limit, and knows which are idle and since when, so that
the oldest idle connection of any account makes room for the next one. A pool that is retired closes what is idle, and
the rest when it comes back; a connection that is out is never closed under its borrower. One lock guards all of it:
every step under it is a few operations on dictionaries, and nothing is connected, closed or asked while it is held.
"""

import contextlib
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakSet

from sqlalchemy.pool import ConnectionPoolEntry, Pool

from kataven.tenancy.pg_connection import PgConnection, is_over
from kataven.tenancy.serving.slots import HostSlots

_HOST_POLL_SECONDS = 0.02  # another process can't wake us when it gives a slot back


class NoConnection(Exception):
    """Raised when no connection can be had in time; the registry says whose."""


class Idle(NamedTuple):
    """A connection on the shelf."""

    pool: "BulkheadPool"
    since: float


class ConnectionBudget:
    """Every connection of a registry. Its methods are called with `changed` held, except where they say otherwise."""

    def __init__(self, limit: int, host_slots: HostSlots | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.clock = clock
        self.limit = limit
        self.host_slots = host_slots
        self.open = 0
        self.outlived: list[socket.socket] = []  # closed by us, and not yet by the server: each has a session there
        self.idle: OrderedDict[ConnectionPoolEntry, Idle] = OrderedDict()  # longest idle first
        self.wires: WeakSet[PgConnection] = WeakSet()
        self.waits = 0
        self.waited_seconds = 0.0
        self.displaced = 0
        self.cut = 0

    def connect(self, dsn: str, **options: Any) -> PgConnection:
        """psycopg2's connection factory. Called without the lock, by whoever has a place for it.

        Raises NoConnection if what was closed to make that place is still there.
        """
        with self.changed:
            if self._sessions() > (self.limit if self.host_slots is None else min(self.limit, self.host_slots.held)):
                raise NoConnection("the server still holds connections that were closed")
        wire = PgConnection(dsn, outlived=self.outlived.append, **options)
        with self.changed:
            wire.busy_since = self.clock()
            self.wires.add(wire)
        return wire

    def claim(self) -> bool:
        """Count one more connection, if the limits of this process and of the host allow it."""
        if self._sessions() >= self.limit or not (self.host_slots is None or self.host_slots.take()):
            return False
        self.open += 1
        return True

    def displace(self) -> ConnectionPoolEntry | None:
        """Take the longest idle connection off its shelf; its place is the caller's, who closes it."""
        if not self.idle:
            return None
        record, (pool, _) = self.idle.popitem(last=False)
        pool.lose(record)
        self.displaced += 1
        return record

    def give_back(self) -> None:
        """Count one connection less, after it has been closed."""
        self.open -= 1
        self.settle()

    def settle(self) -> None:
        """Let go of the host's slots that nothing needs any more."""
        sessions = self._sessions()
        while self.host_slots is not None and self.host_slots.held > sessions:
            self.host_slots.give_back()

    def _sessions(self) -> int:
        """How many sessions the servers have for us at most: those that are open, and those that outlived their end."""
        for wire in [wire for wire in self.outlived if is_over(wire)]:
            self.outlived.remove(wire)
            wire.close()
        return self.open + len(self.outlived)

    def idle_before(self, moment: float) -> list[ConnectionPoolEntry]:
        """Take what has been idle since before `moment` off the shelves, for `discard`."""
        taken = []
        for record, (pool, since) in list(self.idle.items()):
            if since >= moment:
                break
            del self.idle[record]
            pool.lose(record)
            taken.append(record)
        return taken

    def discard(self, records: list[ConnectionPoolEntry]) -> None:
        """Close these and give their places back. Called without the lock."""
        for record in records:
            record.close()
            with self.changed:
                self.give_back()
                self.changed.notify_all()

    def cut_overdue(self, moment: float) -> int:
        """Cut every connection that has been out since before `moment`: whoever waits on it gets a disconnect."""
        overdue = [wire for wire in self.wires if wire.busy_since is not None and wire.busy_since < moment]
        for wire in overdue:
            wire.busy_since = None
            wire.cut()
        self.cut += len(overdue)
        return len(overdue)


class Turn(NamedTuple):
    """What a borrower got: an idle connection, or a place for a new one, maybe in place of a displaced one."""

    idle: ConnectionPoolEntry | None = None
    displaced: ConnectionPoolEntry | None = None


class BulkheadPool(Pool):
    """At most `size` connections to one account's database; `wait_seconds` is how long a borrower queues for one.

    When all are out and none has moved for that long, nobody queues any more: the account is stuck, and its requests
    are refused at once instead of holding the worker's threads.
    """

    def __init__(self, creator: Any, budget: ConnectionBudget, size: int, wait_seconds: float, **options: Any) -> None:
        super().__init__(creator, **options)
        self._budget = budget
        self._size = size
        self._wait_seconds = wait_seconds
        self._shelf: list[ConnectionPoolEntry] = []  # last in, first out: the rest grow old and can be displaced
        self._retired = False
        self._moved_at = budget.clock()
        self.open = 0

    def retire(self) -> None:
        """Close what is idle now, and what is out when it comes back."""
        with self._budget.changed:
            self._retired = True
            idle = list(self._shelf)
            for record in idle:
                del self._budget.idle[record]
                self.lose(record)
        self._budget.discard(idle)

    dispose = retire  # what Engine.dispose() calls, which then replaces the pool by recreate()

    def recreate(self) -> "BulkheadPool":
        """A fresh pool with the same settings."""
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
        """One line for people."""
        return f"{self.open} of {self._size} connections open, {len(self._shelf)} idle"

    def lose(self, record: ConnectionPoolEntry) -> None:
        """Forget an idle connection that has been taken from the ledger. The lock is held."""
        self._shelf.remove(record)
        self.open -= 1

    def _do_get(self) -> ConnectionPoolEntry:
        with self._budget.changed:
            turn = self._turn() or self._queue()
        if turn.idle is not None:
            return turn.idle
        try:
            if turn.displaced is not None:
                turn.displaced.close()
            return self._create_connection()
        except BaseException:
            with self._budget.changed:
                self.open -= 1
                self._budget.give_back()
                self._budget.changed.notify_all()
            raise

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        budget, wire = self._budget, _wire_of(record)
        with budget.changed:
            self._moved_at = budget.clock()
            if wire is not None:
                wire.busy_since = None
                if not self._retired:
                    self._shelf.append(record)
                    budget.idle[record] = Idle(self, self._moved_at)
                    budget.changed.notify_all()
                    return
            self.open -= 1
        budget.discard([record])

    def _turn(self) -> Turn | None:
        """An idle connection, or a place for a new one; None if there is neither. The lock is held."""
        budget, displaced = self._budget, None
        if self._shelf:
            return Turn(idle=self._from_shelf())
        if self.open >= self._size:
            return None
        if not budget.claim():
            displaced = budget.displace()
            if displaced is None:
                return None
        self.open += 1
        self._moved_at = budget.clock()
        return Turn(displaced=displaced)

    def _from_shelf(self) -> ConnectionPoolEntry:
        record = self._shelf.pop()
        del self._budget.idle[record]
        self._moved_at = self._budget.clock()
        if wire := _wire_of(record):
            wire.busy_since = self._moved_at
        return record

    def _queue(self) -> Turn:
        """Wait for a turn, without the lock; raises NoConnection when it does not come in time. The lock is held."""
        budget, began = self._budget, self._budget.clock()
        if self.open >= self._size and began - self._moved_at > self._wait_seconds:
            raise NoConnection("all its connections are busy, and none has moved")
        host = budget.host_slots if self.open < self._size else None
        budget.waits += 1
        with host.waiting() if host is not None else contextlib.nullcontext():
            try:
                while (left := began + self._wait_seconds - budget.clock()) > 0:
                    budget.changed.wait(left if host is None else min(left, _HOST_POLL_SECONDS))
                    if turn := self._turn():
                        return turn
            finally:
                budget.waited_seconds += budget.clock() - began
        raise NoConnection("no connection came free")


def _wire_of(record: ConnectionPoolEntry) -> PgConnection | None:
    """The record's connection; None after a disconnect, until it is used again."""
    wire: Any = record.dbapi_connection
    return wire if isinstance(wire, PgConnection) else None
