"""The room put together: one object per process, from a URL to a receipt."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from redis.exceptions import RedisError

from kataven.redis_clients import redis_client
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
from kataven.revocation.target import RevocationTarget

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Intent:
    """A revocation that is about to be committed: what it covers, and where that is written down, if it is."""

    target: RevocationTarget
    id: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """How this process stands, known without asking anybody."""

    redis_reachable: bool
    lease_confirmed: bool
    """False: every credential is verified in the database, which is slower and just as right."""
    epoch: Epoch | None
    worker: str
    """This process on the list of workers."""


class Revocation:
    """Revokes, and makes this process a worker that hears of revocations. Connects to nothing before it is used.

    A process that only revokes, such as a command, need not `start`. All processes on one Redis and `namespace`, and
    with the same `notices`, are one system.
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
        # A half-open connection must be found out well within a lease, by the worker and by the revoker alike.
        timeout_seconds = lease_seconds / 4
        # Nothing is sent again by itself but what a server refused since it is no primary: see Barrier._publish.
        self._client = redis_client(redis_url, timeout_seconds=timeout_seconds, decode_responses=True)
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
        open_link = partial(RedisLink, redis_url, self._store.channel, timeout_seconds)
        self._subscriber = Subscriber(self.guard, open_link, namespace, self._barrier)

    @property
    def stats(self) -> CacheStats:
        return self.guard.stats

    def start(self) -> None:
        """Become a worker. After the fork; returns at once. Starting twice does nothing."""
        self._poller.start()
        self._subscriber.start()

    def stop(self) -> None:
        """Stop being one: the lease is given back, so that no revoker waits for it, and connections are closed."""
        self._subscriber.stop()
        self._poller.stop()
        with suppress(RedisError):  # then the lease lapses, and another worker takes this one off the list
            self._store.deregister(self._subscriber.id)
        self._client.close()

    def subscribe(self, evict: Evict) -> None:
        """Have `forget(scope)` called for each event before it is acknowledged; see `Guard.subscribe`."""
        self.guard.subscribe(evict)

    def write_intent(self, target: RevocationTarget) -> Intent:
        """Call it right before the change is committed, with everything done but the commit.

        If this process dies before its receipt, workers forget what `scope` covers again and again until the change can
        only be committed or lost: what is committed and what workers believe differ for one lease at most. If it can't
        be written down, the change goes on without: then they may differ for as long as anything is remembered.
        """
        try:
            return Intent(target, self._fallback.add_intent(target))
        except FallbackUnreachable as error:
            self.stats.intents_missed += 1
            _log.warning("revocation: not written down before its commit: %s", error)
            return Intent(target, None)

    def revoke(self, intent: Intent | RevocationTarget) -> Receipt:
        """Call it when the change is committed. When it returns, no worker accepts what the intent covers.

        Takes some milliseconds, or about a lease where something does not answer. Raises NobodyTold if the
        notices can't be reached; then the intent stands, and workers act on it by themselves.
        """
        if isinstance(intent, RevocationTarget):
            intent = Intent(intent, None)
        try:
            receipt = self._barrier.revoke(intent.target)
        except RevocationUnconfirmed:
            self.stats.unconfirmed += 1
            raise
        if intent.id is not None:
            self._complete(intent.id)
        self.stats.revocations += 1
        self.stats.unreachable += not receipt.redis_reachable
        self.stats.split += receipt.channel is Channel.SPLIT
        self.canary.record(receipt)
        return receipt

    def _complete(self, intent: str) -> None:
        if self._poller.running:
            self._poller.remove_intent_later(intent)
            return
        with suppress(FallbackUnreachable):  # then workers go on forgetting it until it is too old
            self._fallback.remove_intents([intent])

    def _reconnect(self) -> None:
        """Drop the connections that lie idle: what they lead to may have been left by everybody else."""
        self._client.connection_pool.disconnect(inuse_connections=False)

    def announce(self, target: RevocationTarget) -> None:
        """Have every worker forget `scope` soon, without waiting: for changes that take nobody's access away."""
        self._barrier.announce(target)

    def status(self) -> Status:
        return Status(self._subscriber.connected, self.guard.leases_valid(), self.guard.epoch, self._subscriber.id)

    def workers(self) -> list[Member]:
        """The workers on the list. Raises redis.RedisError."""
        return self._store.members()
