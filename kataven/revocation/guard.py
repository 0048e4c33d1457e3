"""What a worker may believe. The three rules from the worker's side, without any I/O: read this file first.

    holds          may what is remembered be used now?
    begin_fill     a question is about to be put to the database
    finish_fill    may its answer be remembered?
    heard          an event came: forget what it covers
    confirmed      Redis renewed the lease, and said which epoch it is
    move_to_write  which Redis this worker renews at: written down before a lease from there counts
    noticed        the notices were read, where revokers leave word that can't reach Redis
    reminded       a revocation was begun some time ago and not completed: forget what it covers, until it is

The promise: once a revoker has given its receipt, a request that starts later finds nothing here that the revocation
covers. `docs/revocation-protocol.md` argues why; tests/revocation/test_interleavings.py looks for a way around it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from threading import Lock

from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.lease import Lease
from kataven.revocation.ledger import Ledger
from kataven.revocation.notices import Notice
from kataven.revocation.scope import EVERYTHING, Scope

Forget = Callable[[Scope], None]
RECENT_EVENTS = 1024


class Guard:
    """Stands before every memory of one worker. Safe to use from several threads.

    One thread alone, the worker's own, calls `heard` and `confirmed`, in the order in which Redis spoke; one
    other alone `move_to_write`, `moved`, `noticed` and `reminded`. `reading` is the lease that goes with the notices.
    `on_move` is called on the worker's thread when it renews at a Redis that is not written down yet.
    """

    def __init__(
        self,
        lease: Lease,
        reading: Lease,
        ledger: Ledger | None = None,
        on_move: Callable[[], None] = lambda: None,
    ) -> None:
        self.lease = lease
        self.reading = reading
        self.ledger = ledger if ledger is not None else Ledger()
        self.on_move = on_move
        self.epoch: Epoch | None = None
        self.notice: Notice | None = None
        self._renews_at: str | None = None
        self._written: str | None = None
        self._memories: list[Forget] = []
        self._lock = Lock()
        self._recent: deque[Scope] = deque(maxlen=RECENT_EVENTS)
        self._forgotten = 0

    def subscribe(self, forget: Forget) -> None:
        """Have `forget(scope)` called for each event, before the event is acknowledged, on the worker's thread.

        A memory that is filled by way of another subscribes after that one, as it does if it is built from it. If
        `forget` raises, the event is not acknowledged and the lease is not renewed until it stops raising.
        """
        self._memories.append(forget)

    def holds(self) -> bool:
        """Whether what is remembered may be used. Ask *before* looking it up: what is still there then is good.

        The other way round, a thread could look an entry up, be stopped for a minute, and wake up to a fresh lease.
        """
        return self.holds_at(self.lease.clock())

    def holds_at(self, now: float) -> bool:
        """The same, for whoever has just read the lease's clock."""
        return now < self.lease.until and now < self.reading.until

    def begin_fill(self) -> int:
        """A ticket to take before the database is read. It stands for all that had been forgotten by then."""
        return self._forgotten

    def finish_fill(self, ticket: int, scope: Scope, keep: Callable[[], None]) -> bool:
        """Call `keep`, unless an event that covers `scope` came since the ticket was taken. Says whether it did."""
        with self._lock:  # so that no event comes between the look and the keeping
            missed = self._forgotten - ticket
            if missed > len(self._recent) or any(s.covers(scope) for s in islice(reversed(self._recent), missed)):
                return False
            keep()
            return True

    def heard(self, event: Event) -> None:
        """An event came. When this returns, nothing that it covers is remembered: it may be acknowledged."""
        self.ledger.events += 1
        if event.after.redis != self._renews_at:
            # Redis forgot who holds a lease, this worker among them. It may count on one after its next renewal.
            self.lease.drop()
        self._forget(event.scope if event.before == self.epoch else EVERYTHING)
        self.epoch = event.after

    def confirmed(self, asked_at: float, epoch: Epoch) -> None:
        """Redis answered a renewal that was sent after `asked_at`, at `epoch`.

        If that is not where this worker stands, it has missed an event, or Redis has. If the lease had lapsed, revokers
        no longer waited for this worker. Either way it forgets everything, and only then does the lease hold again.

        It holds only if it is written down, where revokers look, that this worker renews at this Redis. There may be
        two that answer, such as a primary that was paused while another was promoted, and a revoker may publish at
        either.
        """
        self.ledger.renewals += 1
        with self._lock:
            # Looked at before it forgets, too: what a request remembers after that, and before the home is written, may
            # be covered by a revocation whose revoker read the homes in between and does not wait for this worker.
            was_written = self._written == epoch.redis
        if epoch != self.epoch or not self.lease.holds():
            self._forget(EVERYTHING)
            self.epoch = epoch
        with self._lock:
            moved, self._renews_at = epoch.redis != self._renews_at, epoch.redis
            written = self._written == epoch.redis
        if was_written and written:
            self.lease.confirm(asked_at)
            return
        self.lease.drop()
        if moved and not written:  # once: if it can't be written now, the next look at the notices tries again
            self.on_move()

    @property
    def renews_at(self) -> str | None:
        """The identity of the Redis that this worker holds a lease from now; None if it holds none."""
        return self._renews_at if self.lease.holds() else None

    def move_to_write(self) -> tuple[str, bool]:
        """Which Redis to write down as this worker's, empty for none, and whether that is news.

        If it is, no lease counts from here until `moved`: in between it is unknown what is written.
        """
        with self._lock:
            news = self._renews_at is not None and self._renews_at != self._written
            if news:
                self._written = None
            return self._renews_at or "", news

    def moved(self, redis: str) -> None:
        """It is written down, and committed, that this worker renews at `redis`."""
        with self._lock:
            self._written = redis or None

    def noticed(self, asked_at: float, notice: Notice) -> None:
        """This worker wrote, after `asked_at`, that it reads; what it then read is `notice`.

        If that is another one than before, a revoker left word without Redis. If this lease had lapsed, this worker may
        have been taken off the list that revokers read. Either way it forgets everything, and only then does this lease
        hold.
        """
        if notice != self.notice or not self.reading.holds():
            self._forget(EVERYTHING)
            self.notice = notice
        self.reading.confirm(asked_at)

    def reminded(self, scope: Scope) -> None:
        """A revocation of `scope` was begun, and may be committed, but is not completed. Its revoker may have died."""
        self.ledger.reminders += 1
        self._forget(scope)

    def _forget(self, scope: Scope) -> None:
        if scope == EVERYTHING:
            self.ledger.gaps += 1
        # First spoil the tickets of answers that are on their way, then drop the answers that are here; and so again
        # for each memory, since an answer to it may have come by way of one before it, which was still to forget.
        for forget in self._memories:
            with self._lock:
                self._recent.append(scope)
                self._forgotten += 1
            forget(scope)
