"""The fallback channel: how revokers and workers communicate without Redis, through the system database.

    fallback notice     from a revoker that cannot reach Redis, or whose Redis does not reach every worker
    home Redis          from a worker: the server at which it renews its lease, so that a revoker can detect which
                        workers a publication did not reach
    revocation intent   from a revoker, before its commit: if it dies before its receipt, workers evict what it covers
    journal entry       from a revoker, after its commit: the key is refused even if its database loses the commit

A worker that cannot read the channel would miss fallback notices. It therefore needs a second lease, the reader lease:
it uses its caches only if it has written a heartbeat within `READER_LEASE_SECONDS`. Cache entries have the same
lifetime, so a shorter outage of the channel has no cost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from kataven.revocation.target import RevocationTarget, RevokedKey

READER_LEASE_SECONDS = 30.0
"""The length of the reader lease: how long a revoker waits for a reader."""

INTENT_SECONDS = 60.0
"""How long an intent is valid: longer than the transaction that it announces can take."""


class FallbackUnreachable(Exception):
    """The fallback channel can currently be neither read nor written."""


@dataclass(frozen=True, slots=True)
class FallbackNotice:
    """A notice: its sequence number, and a mark that is unique even after the database was restored from a backup."""

    count: int
    mark: str


@dataclass(frozen=True, slots=True)
class FallbackState:
    """What a worker reads at each poll."""

    notice: FallbackNotice
    overdue: frozenset[RevocationTarget]
    """What the overdue intents cover: those that are older than the time the worker asked for."""


@dataclass(frozen=True, slots=True)
class PollerId:
    """A reader: a worker that polls the channel. `pid` is unique within `pid_namespace`."""

    id: str
    pid_namespace: str
    pid: int


@dataclass(frozen=True, slots=True)
class PollerHeartbeat:
    """What a worker writes to the channel."""

    reader: PollerId
    count: int
    """Increases with each heartbeat, even if the reader was removed in between. Equal counts mean: it did not write."""
    read_notice: FallbackNotice | None
    """The notice that it read last."""
    home_redis: str
    """The Redis at which it renews its lease; empty for none."""


@dataclass(frozen=True, slots=True)
class PostedNotice:
    """A posted notice. `readers` maps each reader that may hold a reader lease to the count of its last heartbeat."""

    notice: FallbackNotice
    readers: Mapping[PollerId, int]


class FallbackChannel(Protocol):
    """The storage behind the channel. Each method is committed before it returns, and raises FallbackUnreachable."""

    def read_state(self, overdue_after_seconds: float) -> FallbackState:
        """The latest notice, and what intents older than `overdue_after_seconds` cover, by the clock of the storage."""

    def write_heartbeat(self, heartbeat: PollerHeartbeat) -> FallbackNotice:
        """Write the heartbeat, *then* read and return the latest notice.

        `heartbeat.read_notice` is recorded as read only if it is still the latest notice.
        """

    def post_notice(self) -> PostedNotice:
        """Post a new notice, *then* read the list of readers."""

    def readers_behind(self, notice: FallbackNotice) -> frozenset[PollerId]:
        """The readers that have not written that they read this notice or a later one."""

    def readers_with_other_home(self, redis: str) -> frozenset[PollerId]:
        """The readers that may hold a lease from another Redis than this one."""

    def heartbeat_counts(self) -> dict[PollerId, int]:
        """Every reader with the count of its last heartbeat."""

    def remove_readers(self, heartbeats: Mapping[PollerId, int]) -> None:
        """Remove these readers from the list, except those that have written since."""

    def deregister(self, reader: PollerId) -> None:
        """Remove a reader that has given up its reader lease."""

    def add_intent(self, target: RevocationTarget) -> str:
        """Write the intent to revoke `target`. Returns the intent's id."""

    def remove_intents(self, intents: Collection[str]) -> None:
        """Remove these intents, whose receipts were returned, and all that are older than `INTENT_SECONDS`."""

    def journal(self, key: RevokedKey) -> None:
        """Journal a key whose revocation is committed. Does nothing on a storage without a journal."""

    def expire_journal(self) -> None:
        """Remove the journal entries that are older than any backup."""
