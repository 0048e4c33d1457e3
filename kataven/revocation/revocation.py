"""The room put together: one object per process, from a URL to a receipt."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from kataven.revocation.barrier import Acquaintance, Barrier
from kataven.revocation.board import Board, Member
from kataven.revocation.bus import Worker
from kataven.revocation.canary import Canary
from kataven.revocation.epoch import Epoch
from kataven.revocation.guard import Forget, Guard
from kataven.revocation.lease import Clock, Lease, boottime
from kataven.revocation.ledger import Ledger
from kataven.revocation.link import Link
from kataven.revocation.notices import READING_SECONDS, Notices
from kataven.revocation.posting import Posting
from kataven.revocation.reader import NoticeReader, is_dead
from kataven.revocation.receipt import NobodyTold, Receipt
from kataven.revocation.scope import Scope


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

    A process that only revokes, such as a command, need not `start`; its first revocation waits out one lease, since it
    does not know the Redis that it meets. All processes on one Redis and `namespace`, and with the same `notices`, are
    one system.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        lease_seconds: float = 1.0,
        namespace: str = "kataven",
        notices: Notices | None = None,
        clock: Clock = boottime,
    ) -> None:
        # A half-open connection must be found out well within a lease, by the worker and by the revoker alike.
        timeout_seconds = lease_seconds / 4
        self._client = Redis.from_url(
            redis_url,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            # Once more, at once: what lay in the pool while Redis restarted is dead.
            retry=Retry(NoBackoff(), 1),
        )
        self._board = Board(self._client.execute_command, namespace)
        acquaintance = Acquaintance()
        begin_posting = None if notices is None else partial(Posting, notices, is_dead, clock, READING_SECONDS)
        self._barrier = Barrier(self._board, lease_seconds, acquaintance, begin_posting, clock=clock)
        reading = Lease(READING_SECONDS, clock)
        self.guard = Guard(Lease(lease_seconds, clock), reading=None if notices is None else reading)
        self.canary = Canary()
        open_link = partial(Link, redis_url, self._board.channel, timeout_seconds)
        self._worker = Worker(self.guard, open_link, namespace, acquaintance, self._barrier)
        self._reader = None if notices is None else NoticeReader(self.guard, notices, reading)

    @property
    def ledger(self) -> Ledger:
        return self.guard.ledger

    def start(self) -> None:
        """Become a worker. After the fork; returns at once. Starting twice does nothing."""
        self._worker.start()
        if self._reader is not None:
            self._reader.start()

    def stop(self) -> None:
        """Stop being one: the lease is given back, so that no revoker waits for it, and connections are closed."""
        self._worker.stop()
        if self._reader is not None:
            self._reader.stop()
        with suppress(RedisError):  # then the lease lapses, and another worker takes this one off the list
            self._board.leave(self._worker.id)
        self._client.close()

    def subscribe(self, forget: Forget) -> None:
        """Have `forget(scope)` called for each event before it is acknowledged; see `Guard.subscribe`."""
        self.guard.subscribe(forget)

    def revoke(self, scope: Scope) -> Receipt:
        """Call it when the change is committed. When it returns, no worker accepts what `scope` covers.

        Takes some milliseconds, or about a lease where something does not answer. Raises NobodyTold if neither Redis
        nor the notices can be reached.
        """
        try:
            receipt = self._barrier.revoke(scope)
        except NobodyTold:
            self.ledger.untold += 1
            raise
        self.ledger.revocations += 1
        self.ledger.unreachable += not receipt.redis_reachable
        self.canary.note(receipt)
        return receipt

    def announce(self, scope: Scope) -> None:
        """Have every worker forget `scope` soon, without waiting: for changes that take nobody's access away."""
        self._barrier.announce(scope)

    def status(self) -> Status:
        return Status(self._worker.connected, self.guard.holds(), self.guard.epoch, self._worker.id)

    def workers(self) -> list[Member]:
        """The workers on the list. Raises redis.RedisError."""
        return self._board.members()
