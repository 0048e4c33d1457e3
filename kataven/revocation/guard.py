"""Decides whether a worker may use its caches, and what it evicts. This is the worker's side of the protocol, without
I/O: read this module first.

    leases_valid       before a cache lookup: may the worker use its caches?
    take_fill_token    before a read from the database whose result is to be cached
    cache_result       after that read: caches the result, unless an event covered it in the meantime
    apply_event        an event arrived: evicts what it covers; the event may then be acknowledged
    confirm_lease      Redis renewed the lease and returned its epoch: clears the caches if the worker missed an event
    home_to_write      the home Redis to write to the system database, before a lease from it is valid
    home_written       that write is committed
    apply_notice       a heartbeat was written and returned the latest fallback notice: clears the caches if it is new
    apply_intent       a revocation intent is overdue: evicts what it covers, at each poll

The guarantee: after a revoker has returned its receipt, a request that starts later finds no cache entry that the
revocation covers. `docs/revocation-protocol.md` contains the argument, and tests/revocation/test_interleavings.py
searches for counterexamples.
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
    """Protects all caches of one worker. Any thread may read caches and fill them.

    Only the subscriber's thread calls `apply_event` and `confirm_lease`, in the order in which Redis sent the events
    and replies. Only the poller's thread calls `home_to_write`, `home_written`, `apply_notice` and `apply_intent`.

    `on_home_change` is called on the subscriber's thread when the worker renews at a Redis that is not yet written to
    the system database.
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
        """Register a cache. `evict(target)` is called for each event, before the event is acknowledged.

        Register inner caches first: a cache that is filled through another cache must subscribe after it. If `evict`
        raises, the event is not acknowledged, and the lease is not renewed until `evict` succeeds.
        """
        self._caches.append(evict)

    def leases_valid(self) -> bool:
        """Whether the worker may use its caches. Check this *before* the lookup, never after it.

        If a thread looked up the entry first, it could be paused while its worker lost and regained the lease, and then
        use the stale entry. A lease that is valid at the check was confirmed after every stale entry was evicted.
        """
        return self.leases_valid_at(self.lease.clock())

    def leases_valid_at(self, now: float) -> bool:
        """The same for `now`, a time that the caller has just read from the lease's clock."""
        return now < self.lease.valid_until and now < self.reader_lease.valid_until

    def take_fill_token(self) -> int:
        """A token to take before the database is read. It identifies the evictions that happened before it."""
        return self._evictions

    def cache_result(self, fill_token: int, target: RevocationTarget, store: Callable[[], None]) -> bool:
        """Call `store`, unless an event that covers `target` was applied after the token was taken.

        Returns whether `store` was called.
        """
        with self._lock:  # no event may be applied between the check and `store`
            missed = self._evictions - fill_token
            recent = islice(reversed(self._recent_targets), missed)
            if missed > len(self._recent_targets) or any(evicted.covers(target) for evicted in recent):
                return False
            store()
            return True

    def apply_event(self, event: Event) -> None:
        """Evict what the event covers, or clear the caches if an event before it was missed.

        The event may be acknowledged after this method returns.
        """
        self.stats.events += 1
        if event.after.redis != self._home_redis:
            # This Redis has lost the list of workers, so revokers do not wait for this worker until it renews.
            self.lease.drop()
        self._evict(event.target if event.before == self.epoch else EVERYTHING)
        self.epoch = event.after

    def confirm_lease(self, counted_from: float, epoch: Epoch) -> None:
        """Redis replied with `epoch` to a renewal that was sent after `counted_from`.

        The worker clears its caches before the lease becomes valid, if `epoch` is not its own (it missed an event, or
        Redis lost some) or if its lease had expired (revokers may have stopped waiting for it).

        The lease becomes valid only if this Redis is written to the system database as the worker's home Redis. Two
        Redis servers may respond at once, for example a paused primary that resumes after a failover. A revoker may
        publish at either of them, and reads the home Redis of each worker to detect this.
        """
        self.stats.renewals += 1
        with self._lock:
            # The home must have been written before the caches are cleared, too. A request may fill a cache between the
            # clear and the write, and a revoker that read the homes before the write does not wait for this worker.
            written_before = self._written_home == epoch.redis
        if epoch != self.epoch or not self.lease.is_valid():
            self._evict(EVERYTHING)
            self.epoch = epoch
        with self._lock:
            moved, self._home_redis = epoch.redis != self._home_redis, epoch.redis
            written = self._written_home == epoch.redis
        if written_before and written:
            self.lease.confirm(counted_from)
            return
        self.lease.drop()
        if moved and not written:  # once per move: if the write fails, the next poll repeats it
            self.on_home_change()

    @property
    def home_redis(self) -> str | None:
        """The Redis that this worker currently holds a valid lease from; None if it holds none."""
        return self._home_redis if self.lease.is_valid() else None

    def home_to_write(self) -> tuple[str, bool]:
        """The home Redis to write to the system database (empty for none), and whether it differs from the last write.

        If it differs, no lease becomes valid until `home_written` is called: while a write is in progress, the worker
        cannot know which value revokers read.
        """
        with self._lock:
            changed = self._home_redis is not None and self._home_redis != self._written_home
            if changed:
                self._written_home = None
            return self._home_redis or "", changed

    def home_written(self, redis: str) -> None:
        """The write of `redis` as this worker's home Redis is committed."""
        with self._lock:
            self._written_home = redis or None

    def apply_notice(self, counted_from: float, notice: FallbackNotice) -> None:
        """The worker wrote its heartbeat after `counted_from` and then read `notice`, the latest one.

        The worker clears its caches before the reader lease becomes valid, if the notice is new (a revoker could not
        reach every worker through Redis) or if its reader lease had expired (another process may have removed the
        worker from the list of readers).
        """
        if notice != self.notice or not self.reader_lease.is_valid():
            self._evict(EVERYTHING)
            self.notice = notice
        self.reader_lease.confirm(counted_from)

    def apply_intent(self, target: RevocationTarget) -> None:
        """Evict what an overdue intent covers: its change may be committed, and its revoker may have died."""
        self.stats.intents_applied += 1
        self._evict(target)

    def _evict(self, target: RevocationTarget) -> None:
        if target == EVERYTHING:
            self.stats.gaps += 1
        # For each cache, first invalidate the fill tokens of reads in progress, and then evict the entries. Tokens are
        # invalidated again for every cache: a read for an outer cache may have been answered from an inner cache that
        # had not evicted its entries yet.
        for evict in self._caches:
            with self._lock:
                self._recent_targets.append(target)
                self._evictions += 1
            evict(target)
