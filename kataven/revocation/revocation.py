"""The entry point of the package: one Revocation object per process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from redis.exceptions import RedisError

from kataven.redis_clients import close_idle_connections, redis_client, servers_of
from kataven.revocation.barrier import Barrier
from kataven.revocation.cache_stats import CacheStats
from kataven.revocation.coordination import CoordinationStore, Member
from kataven.revocation.epoch import Epoch
from kataven.revocation.fallback.channel import READER_LEASE_SECONDS, FallbackChannel, FallbackUnreachable
from kataven.revocation.fallback.poller import FallbackPoller, has_exited
from kataven.revocation.guard import Evict, Guard
from kataven.revocation.latency_log import RevocationLatencyLog
from kataven.revocation.lease import Clock, Lease, boottime
from kataven.revocation.receipt import Channel, Receipt, RevocationUnconfirmed
from kataven.revocation.redis_link import RedisLink
from kataven.revocation.subscriber import Subscriber
from kataven.revocation.target import RevocationTarget, RevokedKey

_log = logging.getLogger(__name__)


class RecentRevocationsUnknown(Exception):
    """Redis is unreachable, so its record of the recent revocations can't be read."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A revocation that is about to be committed. `id` is None if the intent could not be written."""

    target: RevocationTarget
    id: str | None
    revoked_key: RevokedKey | None = None
    """The key to journal after the commit; None if the change does not revoke a key."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status of this process, determined without I/O."""

    redis_reachable: bool
    lease_confirmed: bool
    """If False, every credential is verified in the database, which is slower and equally correct."""
    epoch: Epoch | None
    worker: str
    """The id of this process on the list of workers."""
    problem: str | None = None
    """Why Redis can't be reached, such as `sentinel: no primary known`, if that is known."""


class Revocation:
    """Revokes credentials, and makes this process a worker that applies revocations. Connects on first use.

    A process that only revokes, such as a command, need not call `start`. All processes of one deployment must use the
    same Redis, the same `namespace` and the same `fallback` channel.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        lease_seconds: float = 1.0,
        namespace: str = "kataven",
        fallback: FallbackChannel,
        clock: Clock = boottime,
    ) -> None:
        # Workers and revokers must detect a half-open connection well within a lease.
        timeout_seconds = lease_seconds / 4
        # The client repeats no command, except those that a server rejects because it is not a primary: see
        # Barrier._publish.
        servers = servers_of(redis_url)
        self._client = redis_client(servers, timeout_seconds=timeout_seconds, decode_responses=True)
        self._fallback = fallback
        lease, reader_lease = Lease(lease_seconds, clock), Lease(READER_LEASE_SECONDS, clock)
        self.guard = Guard(lease, reader_lease, on_home_change=lambda: self._poller.poll_soon())
        self._poller = FallbackPoller(self.guard, fallback)
        self._store = CoordinationStore(self._client.execute_command, namespace)
        self._barrier = Barrier(
            self._store,
            lease_seconds,
            fallback,
            has_exited=has_exited,
            reader_lease_seconds=READER_LEASE_SECONDS,
            reconnect=self._reconnect,
            home_redis=lambda: self.guard.home_redis,
            clock=clock,
        )
        self.canary = RevocationLatencyLog()
        open_link = partial(RedisLink, servers, self._store.channel, timeout_seconds)
        self._subscriber = Subscriber(self.guard, open_link, namespace, self._barrier)

    @property
    def stats(self) -> CacheStats:
        return self.guard.stats

    def start(self) -> None:
        """Become a worker. Call this after the fork. Returns immediately; a second call does nothing."""
        self._poller.start()
        self._subscriber.start()

    def stop(self) -> None:
        """Stop being a worker: give up both leases, so that no revoker waits for them, and close the connections."""
        self._subscriber.stop()
        self._poller.stop()
        with suppress(RedisError):  # if this fails, the lease expires and another worker removes this one
            self._store.deregister(self._subscriber.id)
        self._client.close()

    def subscribe(self, evict: Evict) -> None:
        """Have `evict(target)` called for each event before the event is acknowledged; see `Guard.subscribe`."""
        self.guard.subscribe(evict)

    def write_intent(self, target: RevocationTarget, revoked_key: RevokedKey | None = None) -> Intent:
        """Write a revocation intent. Call this as the last step before the commit.

        `revoke` journals `revoked_key`. An intent alone journals nothing, because its change may not be committed.

        If this process dies before it returns a receipt, workers evict what `target` covers at each poll, until the
        change is certainly committed or lost. The committed state and the caches then differ for at most one lease plus
        one poll. If the intent cannot be written, the change continues without it, and they may differ until the cache
        entries expire.
        """
        try:
            return Intent(target, self._fallback.add_intent(target), revoked_key)
        except FallbackUnreachable as error:
            self.stats.intents_missed += 1
            _log.warning("revocation: the intent could not be written before the commit: %s", error)
            return Intent(target, None, revoked_key)

    def revoke(self, intent: Intent | RevocationTarget) -> Receipt:
        """Return when no worker accepts what the intent covers. Call this after the change is committed.

        Journals the key before the event is published: workers evict the account's record with the event, so the record
        that they read next contains the entry. An unavailable journal delays the event by up to 1 s and does not
        prevent the receipt.

        Takes a few milliseconds, or about one lease if a worker or a server does not respond. Raises
        RevocationUnconfirmed if the fallback channel is unreachable; the intent then remains, and workers apply it.
        """
        if isinstance(intent, RevocationTarget):
            intent = Intent(intent, None)
        self._journal(intent.revoked_key)
        return self._complete(intent)

    def revoke_together(self, intent: Intent, revoked_keys: Sequence[RevokedKey]) -> Receipt:
        """Like `revoke`, for several keys at once: the target of `intent` covers all of them, such as their account.

        One receipt covers all keys. An unavailable journal delays it by up to 1 s, however many keys there are.
        """
        journalled = True
        for key in revoked_keys:
            journalled = self._journal(key, attempt=journalled)
        self._barrier.record(revoked_keys)
        return self._complete(intent)

    def _complete(self, intent: Intent) -> Receipt:
        try:
            receipt = self._barrier.revoke(intent.target, intent.revoked_key)
        except RevocationUnconfirmed:
            self.stats.unconfirmed += 1
            raise
        if intent.id is not None:
            self._remove_intent(intent.id)
        self.stats.revocations += 1
        self.stats.unreachable += not receipt.redis_reachable
        self.stats.split += receipt.channel is Channel.SPLIT
        self.canary.record(receipt)
        return self._barrier.with_times(receipt)

    def _journal(self, key: RevokedKey | None, *, attempt: bool = True) -> bool:
        """Returns False if the journal is unavailable. Without `attempt`, the key is journalled later."""
        if key is None:
            return True
        try:
            if attempt:
                self._fallback.journal(key)
                return True
        except FallbackUnreachable as error:
            _log.warning("revocation: the key could not be journalled before its receipt: %s", error)
        self.stats.journal_missed += 1
        if self._poller.running:
            self._poller.journal_later(key)
        return False

    def _remove_intent(self, intent: str) -> None:
        if self._poller.running:
            self._poller.remove_intent_later(intent)
            return
        with suppress(FallbackUnreachable):  # if this fails, workers evict the target until the intent expires
            self._fallback.remove_intents([intent])

    def _reconnect(self) -> None:
        """Close the idle connections: they may lead to a Redis that the workers have stopped using."""
        close_idle_connections(self._client)

    def announce(self, target: RevocationTarget) -> None:
        """Make every worker evict `target` soon, without waiting. Only for changes that revoke no access."""
        self._barrier.announce(target)

    def is_recently_revoked(self, key: RevokedKey) -> bool:
        """Whether Redis has a record that the key was revoked within about the last day. For a key with a generation:
        that generation. Raises RecentRevocationsUnknown."""
        try:
            return self._store.is_recently_revoked(key)
        except RedisError as error:
            raise RecentRevocationsUnknown from error

    def recently_revoked(self) -> list[RevokedKey]:
        """The keys that were revoked within about the last day. Raises RecentRevocationsUnknown."""
        try:
            return self._store.recently_revoked()
        except RedisError as error:
            raise RecentRevocationsUnknown from error

    def status(self) -> Status:
        worker = self._subscriber
        return Status(worker.connected, self.guard.leases_valid(), self.guard.epoch, worker.id, worker.problem)

    def workers(self) -> list[Member]:
        """The listed workers. Raises redis.RedisError."""
        return self._store.members()
