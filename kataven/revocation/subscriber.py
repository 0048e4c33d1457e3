"""The worker's background thread: receives events, evicts cache entries, acknowledges, and renews the lease.

    connect and subscribe → renew → receive, evict, acknowledge, until the next renewal is due → renew → …

The thread ends only when it is stopped: after any error it connects again. In the meantime the lease expires and the
worker verifies each request in the database, so no cleanup is necessary.
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

from kataven.redis_clients import NoServer
from kataven.revocation.barrier import Barrier
from kataven.revocation.coordination import CoordinationStore, encode_record, lease_seconds_of
from kataven.revocation.epoch import Event
from kataven.revocation.fallback.channel import PollerId
from kataven.revocation.fallback.poller import pid_namespace
from kataven.revocation.guard import Guard
from kataven.revocation.lease import expiry_wait_seconds
from kataven.revocation.redis_link import RedisLink
from kataven.revocation.sweeper import Sweeper

RENEWALS_PER_LEASE = 4
"""If a renewal is lost, it can time out and be repeated before the lease expires."""
RENEWALS_PER_LEASE_UNTIL_VALID = 16
"""While the lease is not valid, for example because the home Redis is being written."""

_log = logging.getLogger(__name__)


_random = random.SystemRandom()  # independent of the module's generator, which an application may seed


class Subscriber:
    """Makes this process a worker: one thread between `start` and `stop`. Start it after the fork, never before."""

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
        self._received_at = 0.0
        self._sweeper: Sweeper[str, str] = Sweeper(expiry_wait_seconds(guard.lease.seconds) * 4)
        self.id = ""
        self.process = PollerId("", "", 0)
        self.connected = False
        self.problem: str | None = None
        """Why no server can be used, if that is known."""

    def start(self) -> None:
        """Start the thread, unless it is running. Returns immediately; the lease is confirmed shortly afterwards."""
        if self._thread is not None and self._thread.is_alive():
            return
        self.id = secrets.token_hex(8)
        self.process = PollerId(self.id, pid_namespace(), os.getpid())
        self._stopping = Flag()
        self._thread = Thread(target=self.run, args=(self._stopping,), name="revocation", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, then give up the lease. Takes up to a quarter of the lease length."""
        if self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._thread = None
        self._lease.drop()

    def run(self, stopping: Flag) -> None:
        """The thread's loop. Returns when `stopping` is set."""
        attempt = 0
        while not stopping.is_set():
            try:
                with self._open_link() as link:
                    store = CoordinationStore(link.call, self._namespace)
                    self._renew(link, store)
                    attempt, self.connected, self.problem = 0, True, None
                    self._run_connected(link, store, stopping)
            except RedisError as error:
                self.problem = error.problem if isinstance(error, NoServer) else None
                # A warning once per outage; the metrics count every attempt.
                _log.log(logging.DEBUG if attempt else logging.WARNING, "revocation: no connection to Redis: %s", error)
            except BaseException:  # for example a cache that fails to evict: without a lease it is not used
                _log.exception("revocation: this worker cannot keep its lease")
            else:
                return
            self.connected = False
            self._guard.stats.disconnects += 1
            stopping.wait(_backoff(attempt, self._lease.seconds))
            attempt += 1

    def _run_connected(self, link: RedisLink, store: CoordinationStore, stopping: Flag) -> None:
        while not stopping.is_set():
            per_lease = RENEWALS_PER_LEASE if self._lease.is_valid() else RENEWALS_PER_LEASE_UNTIL_VALID
            due = self._renewed_at + self._lease.seconds / per_lease
            while not stopping.is_set() and (left := due - self._lease.clock()) > 0:
                self._acknowledge(store, self._apply(link.wait(left)))
            self._renew(link, store)
            link.check_primary()
            self._sweep(store)
            self._barrier.flush_pending()
        self.connected = False

    def _renew(self, link: RedisLink, store: CoordinationStore) -> None:
        self._heartbeat += 1
        mine = encode_record(self._heartbeat, self._lease.seconds, socket.gethostname(), self.process)
        counted_from = self._lease.clock()
        epoch = store.renew(self.id, mine)
        # Events that Redis sent before its reply to the renewal are applied before the renewal.
        events = self._apply(link.drain())
        self._guard.confirm_lease(counted_from, epoch)
        self._renewed_at = counted_from
        self._acknowledge(store, events)

    def _apply(self, messages: list[str]) -> list[Event]:
        self._received_at = self._lease.clock()
        events = [Event.parse(message) for message in messages]
        for event in events:
            self._guard.apply_event(event)
        return events

    def _acknowledge(self, store: CoordinationStore, events: list[Event]) -> None:
        for event in events:
            if event.ack_id is not None:
                store.acknowledge(event.ack_id, self.id, int((self._lease.clock() - self._received_at) * 1_000_000))

    def _sweep(self, store: CoordinationStore) -> None:
        if self._sweeper.due(self._lease.clock()):
            unchanged = self._sweeper.unchanged(store.records(), self._lease.clock())
            # This worker can only remove workers whose lease would have expired within its own observation time.
            store.sweep(
                {
                    w: text
                    for w, text in unchanged.items()
                    if expiry_wait_seconds(lease_seconds_of(text)) <= self._sweeper.seconds
                }
            )


def _backoff(attempt: int, lease_seconds: float) -> float:
    """Seconds until the next attempt: from a sixteenth of a lease, doubled up to one lease; half of it is random."""
    ceiling = lease_seconds * 0.5 ** max(0, 4 - attempt)  # any number of attempts: an outage may last days
    return ceiling * (0.5 + _random.random() / 2)
