"""Carries out a revocation and returns its receipt when no worker can still use a stale cache entry.

    write_intent   (Revocation) before the commit: if the revoker dies, workers find the intent and evict what it covers
    commit         (the caller)
    publish        increments the epoch, publishes the event and returns the list of workers, in one script
    read homes     which workers have another home Redis than the server that accepted the event?
    wait           none: until every listed worker has acknowledged the event, or the lease length has passed. Workers
                   whose processes have certainly ended are not waited for
    fall back      some, or Redis is unreachable: post a fallback notice and wait until every reader has read it, or its
                   reader lease has passed

No step uses the clock of a worker or of Redis: the revoker measures on its own clock how long it waits for a worker
that does not acknowledge.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Lock

from redis.exceptions import RedisError

from kataven.revocation.coordination import CoordinationStore, Published, lease_seconds_of, process_of
from kataven.revocation.fallback.channel import FallbackChannel, FallbackUnreachable
from kataven.revocation.fallback.publisher import FallbackPublisher, HasExited
from kataven.revocation.lease import Clock, boottime, expiry_wait_seconds
from kataven.revocation.receipt import Acknowledged, Channel, Receipt, RevocationUnconfirmed, WorkerTimes
from kataven.revocation.target import EVERYTHING, RevocationTarget, RevokedKey

MAX_PENDING = 100


@dataclass(frozen=True, slots=True)
class Publication:
    """The result of waiting for one publication."""

    workers: int
    acknowledged: int
    publish_to_last_ack_ms: float | None


class Barrier:
    """Publishes events and waits until they have taken effect. Safe to use from several threads.

    `reconnect` closes the idle connections that `store` publishes over. `home_redis` returns the Redis from which this
    process holds a valid lease, or None. `reader_lease_seconds` is how long a reader is waited for that does not
    read a fallback notice.
    """

    def __init__(
        self,
        store: CoordinationStore,
        lease_seconds: float,
        fallback: FallbackChannel,
        *,
        has_exited: HasExited,
        reader_lease_seconds: float,
        reconnect: Callable[[], None] = lambda: None,
        home_redis: Callable[[], str | None] = lambda: None,
        clock: Clock = boottime,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._fallback = fallback
        self._lease_seconds = lease_seconds
        self._has_exited = has_exited
        self._reader_lease_seconds = reader_lease_seconds
        self._reconnect = reconnect
        self._home_redis = home_redis
        self._clock = clock
        self._sleep = sleep
        self._pending: set[RevocationTarget] = set()
        self._pending_lock = Lock()

    def revoke(self, target: RevocationTarget, revoked_key: RevokedKey | None = None) -> Receipt:
        """Return when every worker has evicted what `target` covers. Call this after the change is committed.

        Redis records `revoked_key` with the event.

        Takes a few milliseconds; one lease if a worker does not acknowledge; about half a lease if Redis is unavailable
        or a worker has another home Redis.

        Raises RevocationUnconfirmed if the fallback channel is unreachable for one lease. The workers that Redis
        reaches have then evicted their entries, but the revoker cannot determine whether those are all workers.
        """
        started = self._clock()
        published = self._publish(target, revoked_key)
        if published is None:
            return self._revoke_by_notice(target, started, Channel.UNREACHABLE)
        # Read after the commit: a worker that moves to another Redis later clears its cache when it moves.
        if self._other_home_possible(published.epoch.redis):
            return self._revoke_by_notice(target, started, Channel.SPLIT)
        publication = self._wait(published, self._clock())
        return Receipt(
            workers=publication.workers,
            acknowledged=publication.acknowledged,
            ms=self._milliseconds_since(started),
            publish_to_last_ack_ms=publication.publish_to_last_ack_ms,
            event=Acknowledged(published.ack_id, published.published_at_microseconds)
            if publication.acknowledged
            else None,
        )

    def with_times(self, receipt: Receipt) -> Receipt:
        """The receipt with the times of each worker. Without them, if Redis is unreachable. One round trip."""
        if receipt.event is None:
            return receipt
        try:
            found = self._store.acknowledgements(receipt.event.ack_id)
        except (RedisError, ValueError, IndexError):
            return receipt
        published = receipt.event.published_at_microseconds
        times = [
            # The clock of Redis may have been set in between.
            WorkerTimes(worker, max(0.0, (at - before - published) / 1000), max(0.0, (at - published) / 1000))
            for worker, (at, before) in found.items()
        ]
        times.sort(key=lambda one: (one.forgotten_ms, one.worker))
        return replace(receipt, times=tuple(times))

    def record(self, revoked_keys: Iterable[RevokedKey]) -> None:
        """Have Redis record revoked keys, as `revoke` does for one. If Redis is unreachable, they are not recorded."""
        with suppress(RedisError):
            for key in revoked_keys:
                self._store.announce(RevocationTarget(key.account, key.key_id), key)

    def announce(self, target: RevocationTarget) -> None:
        """Make every worker evict `target`, without waiting. If Redis is unreachable, publish it later."""
        try:
            self._store.announce(target)
        except RedisError:
            self._reconnect()
            try:
                self._store.announce(target)
            except RedisError:
                self._add_pending(target)

    def flush_pending(self) -> None:
        """Publish the events that could not be published. Those that fail again remain pending."""
        with self._pending_lock:
            pending, self._pending = self._pending, set()
        for target in pending:
            self.announce(target)

    def _add_pending(self, target: RevocationTarget) -> None:
        # A worker that reaches Redis while this process does not still renews its lease. It should receive the event as
        # soon as this process can publish it.
        with self._pending_lock:
            self._pending.add(target)
            if len(self._pending) > MAX_PENDING:
                self._pending = {EVERYTHING}

    def _publish(self, target: RevocationTarget, revoked_key: RevokedKey | None) -> Published | None:
        """None if Redis is unreachable or not writable. Workers may have received the event of a failed attempt.

        A pooled connection may lead to a Redis that the workers have stopped using, or to a demoted primary that
        returns READONLY. If an attempt fails, or reaches another Redis than the home Redis of this process, it is
        repeated once over a new connection. Each attempt has its own id, so an acknowledgement belongs to one attempt.
        """
        try:
            published = self._store.publish(target, revoked_key)
        except RedisError:
            pass
        else:
            if (self._home_redis() or published.epoch.redis) == published.epoch.redis:
                return published
        self._reconnect()
        try:
            return self._store.publish(target, revoked_key)
        except RedisError:
            return None

    def _other_home_possible(self, redis: str) -> bool:
        """Whether a worker may hold a lease from another Redis than `redis`. True if the homes cannot be read."""
        try:
            return any(not self._has_exited(reader) for reader in self._fallback.readers_with_other_home(redis))
        except FallbackUnreachable:
            return True

    def _wait(self, published: Published, now: float) -> Publication:
        """Return when every listed worker has acknowledged, or every lease from before the event has expired.

        `now` is any time after Redis replied, which is later than the publication.
        """
        published = self._without_exited(published)
        longest = max([self._lease_seconds, *map(lease_seconds_of, published.workers.values())])
        leases_expire_at = now + expiry_wait_seconds(longest)
        last_ack = self._wait_for_last_acknowledgement(published, leases_expire_at)
        if last_ack is not None:
            milliseconds = (last_ack - published.published_at_microseconds) / 1000
            return Publication(len(published.workers), len(published.workers), milliseconds)
        missing = self._remove_missing(published) if published.workers else 0
        if missing:
            self._sleep_until(leases_expire_at)
        return Publication(len(published.workers), len(published.workers) - missing, None)

    def _without_exited(self, published: Published) -> Published:
        """Without the workers whose processes have ended, which are also removed from the list of workers."""
        exited = {
            worker: record
            for worker, record in published.workers.items()
            if self._has_exited(process_of(worker, record))
        }
        if not exited:
            return published
        live = {worker: record for worker, record in published.workers.items() if worker not in exited}
        # If this fails, the revoker waits for the leases of the other workers, or the next one finds the same workers.
        with suppress(RedisError):
            self._store.dismiss(published.ack_id, exited)
            self._store.sweep(exited)
        return replace(published, workers=live)

    def _wait_for_last_acknowledgement(self, published: Published, until: float) -> int | None:
        """When the last worker acknowledged; None after `until`, or if no worker is listed."""
        while published.workers and (left := until - self._clock()) > 0:
            try:
                # Each wait is shorter than the socket timeout, so that a dead connection is detected and replaced.
                last_ack = self._store.wait_for_last_acknowledgement(published.ack_id, min(left, self._poll_interval))
            except RedisError:
                self._reconnect()
                self._sleep(min(left, self._poll_interval))
            else:
                if last_ack is not None:
                    return last_ack
        return None

    def _remove_missing(self, published: Published) -> int:
        """The number of workers that did not acknowledge. They are removed from the list of workers, so that the next
        revocation does not wait for them."""
        try:
            missing = self._store.unacknowledged(published) & published.workers.keys()
            self._store.sweep({worker: published.workers[worker] for worker in missing})
        except RedisError:
            return len(published.workers)
        return len(missing)

    def _revoke_by_notice(self, target: RevocationTarget, started: float, channel: Channel) -> Receipt:
        """Return when every reader has read a fallback notice, or its reader lease has passed.

        If Redis is unreachable, the event also becomes pending: workers that reach Redis then need not wait for their
        next poll. Raises RevocationUnconfirmed if the fallback channel is unreachable for one lease.
        """
        if channel is Channel.UNREACHABLE:
            self._add_pending(target)
        give_up_at = self._clock() + expiry_wait_seconds(self._lease_seconds)
        publisher = FallbackPublisher(
            self._fallback, self._has_exited, self._clock, self._reader_lease_seconds, give_up_at
        )
        try:
            while not publisher.advance():
                self._sleep(self._poll_interval)
        except FallbackUnreachable as error:
            raise RevocationUnconfirmed from error
        return Receipt(publisher.workers, publisher.acknowledged, self._milliseconds_since(started), channel=channel)

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            self._sleep(left)

    @property
    def _poll_interval(self) -> float:
        return self._lease_seconds / 8

    def _milliseconds_since(self, started: float) -> float:
        return (self._clock() - started) * 1000
