"""Records the usage of accounts without I/O on the request path.

    record   appends to a bounded queue: the request path
    thread   once a second, aggregates the queue by account, and writes the accounts that are due

An account is due 5 s after its first unwritten request, or 15 s if its batches are large. With many accounts the
interval grows, so that writing takes at most about a twentieth of the thread's time. If a database is unavailable, the
batch is kept and written later, exactly once. Memory is bounded; what does not fit is dropped and counted.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol
from uuid import uuid4

from kataven.background import BackgroundLoop
from kataven.tenancy.errors import NoTenant, SchemaMismatch
from kataven.usage.observed import Observed
from kataven.usage.pending import Batch, PendingUsage, account_of
from kataven.usage.policy import UsagePolicy

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
WRITE_SECONDS = 5.0
LARGE_BATCH_SECONDS = 15.0
LARGE_BATCH = 100
"""Rows of counters. Each batch updates the same ones, so fewer batches write less."""
MAX_WRITE_SECONDS = 60.0
IDLE_FACTOR = 20.0
"""How many times longer than its writes the thread waits between them."""
MAX_QUEUE = 20_000
"""Requests that are not aggregated yet: more than 10 s of the fastest worker."""
MAX_ROWS = 50_000
"""Aggregated rows of all accounts together, with those that could not be written."""
MAX_ACCOUNTS = 20_000
UNMIGRATED_SECONDS = 60.0
STOP_SECONDS = 5.0
TRIM_SECONDS = 300.0
IDLE_TRIM_SECONDS = 3600.0
FORGET_SECONDS = 49 * 3600.0
"""How long an account without requests is trimmed: until its minutes and addresses are gone."""


class UsageStore(Protocol):
    """The databases of the accounts."""

    def write(self, account: str, batch: Batch) -> None:
        """Write a batch exactly once. May raise any exception; SchemaMismatch before `account_0006`."""

    def trim(self, account: str) -> bool:
        """Remove old rows. Returns whether more may remain. May raise any exception."""


Count = Callable[[str, int], None]
"""Counts requests by `recorded`, and what became of them: `stored`, `dropped`, `unmigrated`."""


@dataclass(slots=True)
class _Account:
    pending: PendingUsage
    due: float | None = None
    outgoing: Batch | None = None
    """The batch that could not be written."""
    failures: int = 0
    unmigrated_until: float = 0.0
    sequence: int = 0
    used_at: float = 0.0
    trim_at: float = 0.0
    counters: int = 0
    """Rows of its last batch that the next one updates again."""

    @property
    def rows(self) -> int:
        """Rows in memory."""
        return self.pending.rows + (0 if self.outgoing is None else self.outgoing.rows)


@dataclass(slots=True)
class _Overflow:
    """Requests that found the queue full, by account."""

    calls: dict[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)


class UsageRecorder:
    """The usage that one worker process saw. `count` is called on the request path, so it must be fast."""

    def __init__(
        self,
        store: UsageStore,
        policy: UsagePolicy,
        count: Count = lambda _outcome, _calls: None,
        *,
        recorded: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
        max_queue: int = MAX_QUEUE,
    ) -> None:
        self._store = store
        self.policy = policy
        self._count = count
        self._recorded = recorded
        self._clock = clock
        self._max_queue = max_queue
        self._queue: deque[Observed] = deque()
        self._overflow = _Overflow()
        self._accounts: dict[str, _Account] = {}
        self._writer = str(uuid4())
        self._seconds_per_write = 0.0
        self._running = Lock()
        self._thread = BackgroundLoop("usage", self.run, lambda: TICK_SECONDS)

    def record(self, observed: Observed) -> None:
        """Record a request. Does not block and does not raise. Safe to call from any thread."""
        self._recorded()
        if len(self._queue) < self._max_queue:
            self._queue.append(observed)  # atomic
            return
        with self._overflow.lock:
            calls, account = self._overflow.calls, account_of(observed[2])
            if account in calls or len(calls) < MAX_ACCOUNTS:
                calls[account] = calls.get(account, 0) + 1
        self._count("dropped", 1)

    def start(self) -> None:
        """Start the background thread of this process."""
        self._writer = str(uuid4())  # after a fork, no two processes number the same batches
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and write what was recorded, within `STOP_SECONDS`. The rest is dropped and counted."""
        self._thread.stop(timeout=STOP_SECONDS)
        self.flush(STOP_SECONDS)
        for account in self._accounts.values():
            calls = account.pending.calls + (0 if account.outgoing is None else account.outgoing.calls)
            if calls:
                self._count("dropped", calls)
        self._accounts.clear()

    def flush(self, seconds: float = math.inf) -> None:
        """Write everything now. Begins no write after `seconds`."""
        until = time.monotonic() + seconds
        if not self._running.acquire(timeout=-1 if seconds == math.inf else seconds):
            return  # a write hangs: its database does not respond
        try:
            self._aggregate()
            for name, account in list(self._accounts.items()):
                if time.monotonic() >= until:
                    return
                for _ in range(2):  # what could not be written before, and what came since
                    if account.outgoing is None and account.pending.empty:
                        break
                    self._write(name, account)
                    if account.outgoing is not None:
                        break
        finally:
            self._running.release()

    def run(self) -> None:
        """One round of the thread."""
        with self._running:
            self._aggregate()
            for name, account in list(self._accounts.items()):
                if account.due is not None and account.due <= self._clock():
                    self._write(name, account)
                    self._aggregate()  # writing to many accounts takes longer than the queue is deep
            self._trim_one()

    def _aggregate(self) -> None:
        now = self._clock()
        room = sum(account.rows for account in self._accounts.values() if account.due is not None) < MAX_ROWS
        for _ in range(len(self._queue)):
            observed = self._queue.popleft()
            account = self._account(account_of(observed[2]), now)
            if account is None:
                self._count("dropped", 1)
            elif account.unmigrated_until > now:
                self._count("unmigrated", 1)
            else:
                if account.due is None:
                    account.due = now + self._interval(account)
                if not account.pending.add(observed, room=room):
                    self._count("dropped", 1)
        with self._overflow.lock:
            dropped, self._overflow.calls = self._overflow.calls, {}
        for name, calls in dropped.items():
            account = self._account(name, now)
            if account is not None:
                account.pending.drop(now, calls)
                account.due = account.due or now + self._interval(account)

    def _account(self, name: str, now: float) -> _Account | None:
        account = self._accounts.get(name)
        if account is None:
            if len(self._accounts) >= MAX_ACCOUNTS:
                return None
            account = self._accounts[name] = _Account(PendingUsage(self.policy), trim_at=now + TRIM_SECONDS)
        account.used_at = now
        return account

    def _interval(self, account: _Account) -> float:
        least = LARGE_BATCH_SECONDS if account.counters > LARGE_BATCH else WRITE_SECONDS
        busy = sum(account.due is not None for account in self._accounts.values()) if self._seconds_per_write else 0
        return min(MAX_WRITE_SECONDS, max(least, IDLE_FACTOR * busy * self._seconds_per_write))

    def _write(self, name: str, account: _Account) -> None:
        batch = account.outgoing
        if batch is None:
            account.sequence += 1
            account.counters = account.pending.counters
            batch = account.pending.take(self._writer, account.sequence)
        started = time.perf_counter()
        try:
            self._store.write(name, batch)
        except SchemaMismatch:
            self._discard(account, batch, "unmigrated")
            account.unmigrated_until = self._clock() + UNMIGRATED_SECONDS
            return
        except NoTenant:
            self._discard(account, batch, "dropped")
            del self._accounts[name]
            return
        except Exception as error:
            # An error in one account's database must not prevent writing the usage of other accounts.
            log.log(
                logging.DEBUG if account.failures else logging.WARNING,
                "usage not stored; it is kept and written later",
                extra={"account": name, "error": type(error).__name__},
            )
            account.outgoing = batch
            account.failures += 1
            account.due = self._clock() + min(MAX_WRITE_SECONDS, WRITE_SECONDS * 2 ** min(account.failures, 4))
            return
        took = time.perf_counter() - started
        self._seconds_per_write += (took - self._seconds_per_write) * 0.1
        self._count("stored", batch.calls)
        account.outgoing, account.failures = None, 0
        account.due = None if account.pending.empty else self._clock() + self._interval(account)

    def _discard(self, account: _Account, batch: Batch, outcome: str) -> None:
        rest = account.pending.take(self._writer, 0)
        self._count(outcome, batch.calls + rest.calls)
        account.outgoing, account.due = None, None

    def _trim_one(self) -> None:
        """Remove old rows of one account, if one is due."""
        now = self._clock()
        for name, account in self._accounts.items():
            if account.trim_at > now or account.outgoing is not None or account.unmigrated_until > now:
                continue
            idle = account.due is None
            if idle and now - account.used_at > FORGET_SECONDS:
                del self._accounts[name]
                return
            try:
                more = self._store.trim(name)
            except Exception as error:
                log.debug("old usage not removed", extra={"account": name, "error": type(error).__name__})
                more = False
            account.trim_at = now + (TICK_SECONDS if more else IDLE_TRIM_SECONDS if idle else TRIM_SECONDS)
            return
