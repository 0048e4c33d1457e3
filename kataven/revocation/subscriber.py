"""The worker's thread: it hears events, makes the worker forget, says so, and keeps the lease.

    connect and subscribe → renew → hear, forget, acknowledge … until the next renewal is due → renew → …

It ends when it is told to and at nothing else: whatever goes wrong, it connects anew. Meanwhile the lease lapses by
itself and the worker verifies everything in the database, so there is nothing to clean up.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import socket
from collections.abc import Callable
from threading import Event as Flag
from threading import Thread

from redis.exceptions import RedisError

from kataven.revocation.barrier import Barrier
from kataven.revocation.coordination import CoordinationStore, encode_record, lease_seconds_of
from kataven.revocation.epoch import Event
from kataven.revocation.guard import Guard
from kataven.revocation.lease import expiry_wait_seconds
from kataven.revocation.redis_link import RedisLink
from kataven.revocation.sweeper import Sweeper

RENEWALS_PER_LEASE = 4
"""So that a renewal may be lost, its timeout noticed and another be answered before the lease lapses."""
RENEWALS_PER_LEASE_UNTIL_VALID = 16
"""While it is being written down at which Redis this worker renews."""

_log = logging.getLogger(__name__)


_random = random.SystemRandom()  # not the module's own state, which belongs to whoever seeds it


class Subscriber:
    """This process as a worker: one thread between `start` and `stop`. To be started after a fork, never before."""

    def __init__(
        self,
        guard: Guard,
        open_link: Callable[[], RedisLink],
        namespace: str,
        barrier: Barrier,
    ) -> None:
        self._guard = guard
        self._open_link = open_link
        self._namespace = namespace
        self._barrier = barrier
        self._lease = guard.lease
        self._stopping = Flag()
        self._thread: Thread | None = None
        self._heartbeat = 0
        self._renewed_at = 0.0
        self._sweeper: Sweeper[str, str] = Sweeper(expiry_wait_seconds(guard.lease.seconds) * 4)
        self.id = ""
        self.connected = False

    def start(self) -> None:
        """Begin. Returns at once; the lease is confirmed a moment later. Does nothing if it is running."""
        if self._thread is not None and self._thread.is_alive():
            return
        self.id = secrets.token_hex(8)
        self._stopping = Flag()
        self._thread = Thread(target=self.run, args=(self._stopping,), name="revocation", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, then the lease. Takes up to a quarter of a lease."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None
        self._lease.drop()

    def run(self, stopping: Flag) -> None:
        """What the thread does, until `stopping` is set."""
        attempt = 0
        while not stopping.is_set():
            try:
                with self._open_link() as link:
                    store = CoordinationStore(link.call, self._namespace)
                    self._renew(link, store)
                    attempt, self.connected = 0, True
                    self._serve(link, store, stopping)
            except RedisError as error:
                # Once per outage; the metrics count the attempts.
                _log.log(logging.DEBUG if attempt else logging.WARNING, "revocation: no connection to Redis: %s", error)
            except BaseException:  # a memory that can't forget, say: without a lease it is harmless
                _log.exception("revocation: this worker can't keep its lease")
            else:
                return
            self.connected = False
            self._guard.stats.disconnects += 1
            stopping.wait(_backoff(attempt, self._lease.seconds))
            attempt += 1

    def _serve(self, link: RedisLink, store: CoordinationStore, stopping: Flag) -> None:
        while not stopping.is_set():
            often = RENEWALS_PER_LEASE if self._lease.is_valid() else RENEWALS_PER_LEASE_UNTIL_VALID
            due = self._renewed_at + self._lease.seconds / often
            while not stopping.is_set() and (left := due - self._lease.clock()) > 0:
                self._acknowledge(store, self._apply(link.wait(left)))
            self._renew(link, store)
            self._sweep(store)
            self._barrier.flush_pending()
        self.connected = False

    def _renew(self, link: RedisLink, store: CoordinationStore) -> None:
        self._heartbeat += 1
        mine = encode_record(self._heartbeat, self._lease.seconds, socket.gethostname(), os.getpid())
        counted_from = self._lease.clock()
        epoch = store.renew(self.id, mine)
        # What Redis said before it renewed is heard before the renewal.
        events = self._apply(link.drain())
        self._guard.confirm_lease(counted_from, epoch)
        self._renewed_at = counted_from
        self._acknowledge(store, events)

    def _apply(self, messages: list[str]) -> list[Event]:
        events = [Event.parse(message) for message in messages]
        for event in events:
            self._guard.apply_event(event)
        return events

    def _acknowledge(self, store: CoordinationStore, events: list[Event]) -> None:
        for event in events:
            if event.ack_id is not None:
                store.acknowledge(event.ack_id, self.id)

    def _sweep(self, store: CoordinationStore) -> None:
        if self._sweeper.due(self._lease.clock()):
            unchanged = self._sweeper.unchanged(store.records(), self._lease.clock())
            # A lease may be longer than ours, and then this worker can't tell that it has lapsed.
            store.sweep(
                {
                    w: text
                    for w, text in unchanged.items()
                    if expiry_wait_seconds(lease_seconds_of(text)) <= self._sweeper.seconds
                }
            )


def _backoff(attempt: int, lease_seconds: float) -> float:
    """Seconds until the next attempt: from a sixteenth of a lease, doubling, to one lease; half of it by chance."""
    ceiling = lease_seconds * 0.5 ** max(0, 4 - attempt)  # for any number of attempts: an outage may last for days
    return ceiling * (0.5 + _random.random() / 2)
