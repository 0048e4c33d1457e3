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

from kataven.revocation.cache_stats import CacheStats
from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import Lease
from kataven.revocation.target import EVERYTHING, RevocationTarget

Evict = Callable[[RevocationTarget], None]
RECENT_EVICTIONS = 1024


class Guard:
    """Stands before every memory of one worker. Safe to use from several threads.

    One thread alone, the worker's own, calls `heard` and `confirmed`, in the order in which Redis spoke; one
    other alone `move_to_write`, `moved`, `noticed` and `reminded`. `reading` is the lease that goes with the notices.
    `on_move` is called on the worker's thread when it renews at a Redis that is not written down yet.
    """

    def __init__(
        self,
        lease: Lease,
        reader_lease: Lease,
        stats: CacheStats | None = None,
        on_home_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.lease = lease
        self.reader_lease = reader_lease
        self.stats = stats if stats is not None else CacheStats()
        self.on_home_change = on_home_change
        self.epoch: Epoch | None = None
        self.notice: FallbackNotice | None = None
        self._home_redis: str | None = None
        self._written_home: str | None = None
        self._caches: list[Evict] = []
        self._lock = Lock()
        self._recent_targets: deque[RevocationTarget] = deque(maxlen=RECENT_EVICTIONS)
        self._evictions = 0

    def subscribe(self, evict: Evict) -> None:
        """Have `forget(scope)` called for each event, before the event is acknowledged, on the worker's thread.

        A memory that is filled by way of another subscribes after that one, as it does if it is built from it. If
        `forget` raises, the event is not acknowledged and the lease is not renewed until it stops raising.
        """
        self._caches.append(evict)

    def leases_valid(self) -> bool:
        """Whether what is remembered may be used. Ask *before* looking it up: what is still there then is good.

        The other way round, a thread could look an entry up, be stopped for a minute, and wake up to a fresh lease.
        """
        return self.leases_valid_at(self.lease.clock())

    def leases_valid_at(self, now: float) -> bool:
        """The same, for whoever has just read the lease's clock."""
        return now < self.lease.valid_until and now < self.reader_lease.valid_until

    def take_fill_token(self) -> int:
        """A ticket to take before the database is read. It stands for all that had been forgotten by then."""
        return self._evictions

    def cache_result(self, fill_token: int, target: RevocationTarget, keep: Callable[[], None]) -> bool:
        """Call `keep`, unless an event that covers `scope` came since the ticket was taken. Says whether it did."""
        with self._lock:  # so that no event comes between the look and the keeping
            missed = self._evictions - fill_token
            if missed > len(self._recent_targets) or any(
                s.covers(target) for s in islice(reversed(self._recent_targets), missed)
            ):
                return False
            keep()
            return True

    def apply_event(self, event: Event) -> None:
        """An event came. When this returns, nothing that it covers is remembered: it may be acknowledged."""
        self.stats.events += 1
        if event.after.redis != self._home_redis:
            # Redis forgot who holds a lease, this worker among them. It may count on one after its next renewal.
            self.lease.drop()
        self._evict(event.target if event.before == self.epoch else EVERYTHING)
        self.epoch = event.after

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        """Redis answered a renewal that was sent after `asked_at`, at `epoch`.

        If that is not where this worker stands, it has missed an event, or Redis has. If the lease had lapsed, revokers
        no longer waited for this worker. Either way it forgets everything, and only then does the lease hold again.

        It holds only if it is written down, where revokers look, that this worker renews at this Redis. There may be
        two that answer, such as a primary that was paused while another was promoted, and a revoker may publish at
        either.
        """
        self.stats.renewals += 1
        if epoch != self.epoch or not self.lease.is_valid():
            self._evict(EVERYTHING)
            self.epoch = epoch
        with self._lock:
            moved, self._home_redis = epoch.redis != self._home_redis, epoch.redis
            written = self._written_home == epoch.redis
        if written:
            self.lease.confirm(counted_from)
        else:
            self.lease.drop()
            if moved:  # once: if it can't be written now, the next look at the notices tries again
                self.on_home_change()

    @property
    def home_redis(self) -> str | None:
        """The identity of the Redis that this worker holds a lease from now; None if it holds none."""
        return self._home_redis if self.lease.is_valid() else None

    def home_to_write(self) -> tuple[str, bool]:
        """Which Redis to write down as this worker's, empty for none, and whether that is news.

        If it is, no lease counts from here until `moved`: in between it is unknown what is written.
        """
        with self._lock:
            news = self._home_redis is not None and self._home_redis != self._written_home
            if news:
                self._written_home = None
            return self._home_redis or "", news

    def home_written(self, redis: str) -> None:
        """It is written down, and committed, that this worker renews at `redis`."""
        with self._lock:
            self._written_home = redis or None

    def apply_notice(self, counted_from: float, notice: FallbackNotice) -> None:
        """This worker wrote, after `asked_at`, that it reads; what it then read is `notice`.

        If that is another one than before, a revoker left word without Redis. If this lease had lapsed, this worker may
        have been taken off the list that revokers read. Either way it forgets everything, and only then does this lease
        hold.
        """
        if notice != self.notice or not self.reader_lease.is_valid():
            self._evict(EVERYTHING)
            self.notice = notice
        self.reader_lease.confirm(counted_from)

    def apply_intent(self, target: RevocationTarget) -> None:
        """A revocation of `scope` was begun, and may be committed, but is not completed. Its revoker may have died."""
        self.stats.intents_applied += 1
        self._evict(target)

    def _evict(self, target: RevocationTarget) -> None:
        if target == EVERYTHING:
            self.stats.gaps += 1
        # First spoil the tickets of answers that are on their way, then drop the answers that are here; and so again
        # for each memory, since an answer to it may have come by way of one before it, which was still to forget.
        for evict in self._caches:
            with self._lock:
                self._recent_targets.append(target)
                self._evictions += 1
            evict(target)
