"""The second rule. A revocation is answered when no worker can still act on what it remembers from before.

    commit (the caller) → publish → every worker on the list acknowledged, or one lease has passed → receipt
                          no Redis? post a notice → every worker has read it, or its lease has passed → receipt

Nothing here needs a worker's clock, or Redis's: whoever did not acknowledge is waited out by the revoker's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from redis.exceptions import RedisError

from kataven.revocation.board import Board, Published, lease_seconds_of
from kataven.revocation.lease import Clock, boottime, outlast
from kataven.revocation.notices import NoticesUnreachable
from kataven.revocation.posting import Posting
from kataven.revocation.receipt import NobodyTold, Receipt
from kataven.revocation.scope import EVERYTHING, Scope

MAX_OWED = 100


class Acquaintance:
    """Which Redis this process knows, and since when.

    What Redis forgets, workers still count on: a lease that an earlier Redis gave holds on for up to its length after
    this one is seen first, and this one's list does not name who holds it.
    """

    def __init__(self) -> None:
        self._redis: str | None = None
        self._since = 0.0
        self._lock = Lock()

    def met(self, redis: str, now: float) -> float:
        """It answered by `now`. Returns when it was first met since any other."""
        with self._lock:
            if redis != self._redis:
                self._redis, self._since = redis, now
            return self._since


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a revoker has to wait, on its own clock."""

    leases_lapse_at: float
    """Every lease confirmed before the event was published has lapsed, acknowledged or not."""
    strangers_lapse_at: float
    """So has every lease from a Redis before this one, which this one's list does not name."""

    @classmethod
    def begin(cls, published: Published, acquaintance: Acquaintance, lease_seconds: float, now: float) -> Wait:
        """`now` is any time after Redis answered; the event was published before it."""
        longest = max([lease_seconds, *map(lease_seconds_of, published.workers.values())])
        since = acquaintance.met(published.epoch.redis, now)
        return cls(now + outlast(longest), since + outlast(lease_seconds))

    def answer_at(self, *, acknowledged: bool) -> float:
        """When the receipt may be given; `acknowledged` says that every worker on the list has answered."""
        return self.strangers_lapse_at if acknowledged else max(self.leases_lapse_at, self.strangers_lapse_at)


class Barrier:
    """Publishes events and waits for what they need. Safe to use from several threads.

    `begin_posting` opens the way around Redis, to be given up at a time on `clock`. Without it, a revoker that can't
    reach Redis gives its receipt after one lease, which is right if no worker can reach it either.
    """

    def __init__(
        self,
        board: Board,
        lease_seconds: float,
        acquaintance: Acquaintance,
        begin_posting: Callable[[float], Posting] | None = None,
        *,
        clock: Clock = boottime,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._board = board
        self._begin_posting = begin_posting
        self._lease_seconds = lease_seconds
        self._acquaintance = acquaintance
        self._clock = clock
        self._sleep = sleep
        self._owed: set[Scope] = set()
        self._owed_lock = Lock()

    def revoke(self, scope: Scope) -> Receipt:
        """To be called when the change is committed. Returns when every worker has forgotten what `scope` covers.

        Takes some milliseconds; one lease if a worker does not answer, or if this process does not know this Redis yet,
        or if there is none; about two if Redis goes away meanwhile. Raises NobodyTold if neither Redis nor the notices
        can be reached for one lease.
        """
        started = self._clock()
        published = self._publish(scope, started)
        if isinstance(published, Receipt):
            return published
        wait = Wait.begin(published, self._acquaintance, self._lease_seconds, self._clock())
        last_ack = self._wait_for_all(published, wait.leases_lapse_at)
        everybody = last_ack is not None or not published.workers
        missing = 0 if everybody else self._missing(published)
        self._sleep_until(wait.answer_at(acknowledged=everybody))
        microseconds = None if last_ack is None else last_ack - published.published_at_microseconds
        return Receipt(
            workers=len(published.workers),
            acknowledged=len(published.workers) - missing,
            ms=self._milliseconds_since(started),
            publish_to_last_ack_ms=None if microseconds is None else microseconds / 1000,
        )

    def announce(self, scope: Scope) -> None:
        """Have every worker forget `scope`, without waiting. If Redis is away, as soon as this process reaches it."""
        try:
            self._board.announce(scope)
        except RedisError:
            self._owe(scope)

    def pay(self) -> None:
        """Publish what could not be published when it should have been. What fails again is still owed."""
        with self._owed_lock:
            owed, self._owed = self._owed, set()
        for scope in owed:
            self.announce(scope)

    def _owe(self, scope: Scope) -> None:
        # A worker that can reach Redis while we can't still renews its lease. It should hear of this as soon as it can.
        with self._owed_lock:
            self._owed.add(scope)
            if len(self._owed) > MAX_OWED:
                self._owed = {EVERYTHING}

    def _publish(self, scope: Scope, started: float) -> Published | Receipt:
        """What was published; or a receipt, if Redis is away and every worker has been told without it.

        An attempt that failed may have been heard all the same. Forgetting twice does no harm.
        """
        give_up_at: float | None = None
        while True:
            try:
                return self._board.publish(scope)
            except RedisError:
                if give_up_at is None:
                    give_up_at = self._clock() + outlast(self._lease_seconds)
                    posting = self._begin_posting(give_up_at) if self._begin_posting else None
                    self._owe(scope)
            if self._settled(posting, give_up_at):
                told = (posting.workers, posting.acknowledged) if posting is not None else (0, 0)
                return Receipt(*told, self._milliseconds_since(started), redis_reachable=False)
            self._sleep(self._pause)

    def _settled(self, posting: Posting | None, give_up_at: float) -> bool:
        if posting is None:
            return self._clock() >= give_up_at
        try:
            return posting.settled()
        except NoticesUnreachable as error:
            raise NobodyTold from error

    def _wait_for_all(self, published: Published, until: float) -> int | None:
        """When the last worker acknowledged; None once `until` has come, or if there is nobody to wait for."""
        while published.workers and (left := until - self._clock()) > 0:
            try:
                # In slices shorter than the socket's timeout, so that a dead connection is noticed and made anew.
                last_ack = self._board.wait_for_all(published.answer_id, min(left, self._pause))
            except RedisError:
                self._sleep(min(left, self._pause))
            else:
                if last_ack is not None:
                    return last_ack
        return None

    def _missing(self, published: Published) -> int:
        """How many did not acknowledge. They come off the list, so that the next revocation need not wait for them."""
        try:
            missing = self._board.missing(published)
            self._board.sweep({worker: published.workers[worker] for worker in missing})
        except RedisError:
            return len(published.workers)
        return len(missing)

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            self._sleep(left)

    @property
    def _pause(self) -> float:
        return self._lease_seconds / 8

    def _milliseconds_since(self, started: float) -> float:
        return (self._clock() - started) * 1000
