"""The second rule. A revocation is answered when no worker can still act on what it remembers from before.

    write down what is about to end → commit (the caller) → publish → everybody acknowledged, or one lease has passed →
    nobody renews at another Redis → receipt
        no Redis, or not enough of it? post a notice → every worker has read it, or its lease has passed → receipt

Nothing here needs a worker's clock, or Redis's: a worker that did not acknowledge is waited out by the revoker's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from redis.exceptions import RedisError

from kataven.revocation.coordination import CoordinationStore, Published, lease_seconds_of
from kataven.revocation.fallback.channel import FallbackChannel, FallbackUnreachable
from kataven.revocation.fallback.publisher import FallbackPublisher, HasExited
from kataven.revocation.lease import Clock, boottime, expiry_wait_seconds
from kataven.revocation.receipt import Channel, Receipt, RevocationUnconfirmed
from kataven.revocation.target import EVERYTHING, RevocationTarget

MAX_PENDING = 100


@dataclass(frozen=True, slots=True)
class Publication:
    """What came of one publication."""

    workers: int
    acknowledged: int
    publish_to_last_ack_ms: float | None


class Barrier:
    """Publishes events and waits for what they need. Safe to use from several threads.

    `reconnect` drops the idle connections that the board publishes over. `renews_at` names the Redis at which this
    process itself holds a lease now, None if it holds none. A worker that is not heard of by way of the notices is
    waited for `reading_seconds`.
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

    def revoke(self, target: RevocationTarget) -> Receipt:
        """To be called when the change is committed. Returns when every worker has forgotten what `scope` covers.

        Takes some milliseconds; one lease if a worker does not answer; about half of one if there is no Redis, or if a
        worker renews at another one. Raises NobodyTold if the notices can't be reached for one lease: then the workers
        that Redis reaches have forgotten, and it is not known whether those are all.
        """
        started = self._clock()
        published = self._publish(target)
        if published is None:
            return self._revoke_by_notice(target, started, Channel.UNREACHABLE)
        # Whom this publication misses is read after the change was committed: a worker that moves later forgets then.
        if self._other_home_possible(published.epoch.redis):
            return self._revoke_by_notice(target, started, Channel.SPLIT)
        answered = self._wait(published, self._clock())
        return Receipt(
            workers=answered.workers,
            acknowledged=answered.acknowledged,
            ms=self._milliseconds_since(started),
            publish_to_last_ack_ms=answered.publish_to_last_ack_ms,
        )

    def announce(self, target: RevocationTarget) -> None:
        """Have every worker forget `scope`, without waiting. If Redis is away, as soon as this process reaches it."""
        try:
            self._store.announce(target)
        except RedisError:
            self._reconnect()
            try:
                self._store.announce(target)
            except RedisError:
                self._add_pending(target)

    def flush_pending(self) -> None:
        """Publish what could not be published when it should have been. What fails again is still owed."""
        with self._pending_lock:
            owed, self._pending = self._pending, set()
        for target in owed:
            self.announce(target)

    def _add_pending(self, target: RevocationTarget) -> None:
        # A worker that can reach Redis while we can't still renews its lease. It should hear of this as soon as it can.
        with self._pending_lock:
            self._pending.add(target)
            if len(self._pending) > MAX_PENDING:
                self._pending = {EVERYTHING}

    def _publish(self, target: RevocationTarget) -> Published | None:
        """None if Redis can't be reached, or not to write to. An attempt that failed may have been heard all the same.

        A connection from the pool may lead to a Redis that nobody else uses any more, or to one that answers READONLY
        since it was demoted. So an attempt that fails, and one that reaches another Redis than this process renews at,
        is made once more, over a new connection. Each has an answer id of its own: what is acknowledged is one attempt.
        """
        try:
            published = self._store.publish(target)
        except RedisError:
            pass
        else:
            if (self._home_redis() or published.epoch.redis) == published.epoch.redis:
                return published
        self._reconnect()
        try:
            return self._store.publish(target)
        except RedisError:
            return None

    def _other_home_possible(self, redis: str) -> bool:
        """Whether a worker may hold a lease from another Redis than this. If that can't be read, one may."""
        try:
            return any(not self._has_exited(reader) for reader in self._fallback.readers_with_other_home(redis))
        except FallbackUnreachable:
            return True

    def _wait(self, published: Published, now: float) -> Publication:
        """Return when every worker on the list has acknowledged, or every lease from before the event has lapsed.

        `now` is any time after Redis answered; the event was published before it.
        """
        longest = max([self._lease_seconds, *map(lease_seconds_of, published.workers.values())])
        lapse_at = now + expiry_wait_seconds(longest)
        last_ack = self._wait_for_last_acknowledgement(published, lapse_at)
        if last_ack is not None:
            milliseconds = (last_ack - published.published_at_microseconds) / 1000
            return Publication(len(published.workers), len(published.workers), milliseconds)
        missing = self._missing(published) if published.workers else 0
        if missing:
            self._sleep_until(lapse_at)
        return Publication(len(published.workers), len(published.workers) - missing, None)

    def _wait_for_last_acknowledgement(self, published: Published, until: float) -> int | None:
        """When the last worker acknowledged; None once `until` has come, or if there is nobody to wait for."""
        while published.workers and (left := until - self._clock()) > 0:
            try:
                # In slices shorter than the socket's timeout, so that a dead connection is noticed and made anew.
                last_ack = self._store.wait_for_last_acknowledgement(published.ack_id, min(left, self._pause))
            except RedisError:
                self._reconnect()
                self._sleep(min(left, self._pause))
            else:
                if last_ack is not None:
                    return last_ack
        return None

    def _missing(self, published: Published) -> int:
        """How many did not acknowledge. They come off the list, so that the next revocation need not wait for them."""
        try:
            missing = self._store.unacknowledged(published) & published.workers.keys()
            self._store.sweep({worker: published.workers[worker] for worker in missing})
        except RedisError:
            return len(published.workers)
        return len(missing)

    def _revoke_by_notice(self, target: RevocationTarget, started: float, channel: Channel) -> Receipt:
        """Return when every worker has read a notice, or its lease has passed. Raises NobodyTold.

        If Redis is away, the event is owed to it: a worker that can reach it need not wait for its next look.
        """
        if channel is Channel.UNREACHABLE:
            self._add_pending(target)
        give_up_at = self._clock() + expiry_wait_seconds(self._lease_seconds)
        publisher = FallbackPublisher(
            self._fallback, self._has_exited, self._clock, self._reader_lease_seconds, give_up_at
        )
        try:
            while not publisher.advance():
                self._sleep(self._pause)
        except FallbackUnreachable as error:
            raise RevocationUnconfirmed from error
        return Receipt(publisher.workers, publisher.acknowledged, self._milliseconds_since(started), channel=channel)

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            self._sleep(left)

    @property
    def _pause(self) -> float:
        return self._lease_seconds / 8

    def _milliseconds_since(self, started: float) -> float:
        return (self._clock() - started) * 1000
