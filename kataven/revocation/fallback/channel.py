"""What revokers and workers tell each other apart from Redis: a place that every worker reads.

    a notice     from a revoker that Redis does not serve, or not for every worker
    a home       from a worker: at which Redis it renews its lease, so that a revoker knows whom a publication misses
    an intent    from a revoker that is about to commit: if it dies before its receipt, workers go on forgetting

A worker that can't read it can't hear such a word, so it counts on a second lease: it uses what it remembers only while
it has written, within `READING_SECONDS`, that it reads. That is as long as anything is remembered at all, so a place
that is away for less costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from kataven.revocation.target import RevocationTarget

READER_LEASE_SECONDS = 30.0
"""How long a worker that wrote that it reads is waited for."""

INTENT_SECONDS = 60.0
"""How long an intent that is not completed stands: longer than the transaction that it announces can take."""


class FallbackUnreachable(Exception):
    """The notices can be neither read nor written right now."""


@dataclass(frozen=True, slots=True)
class FallbackNotice:
    """What is posted: the how many-th, and a mark that no other one has, whatever was restored from a backup."""

    count: int
    mark: str


@dataclass(frozen=True, slots=True)
class FallbackState:
    """What a worker finds when it looks."""

    notice: FallbackNotice
    """The latest notice."""
    overdue: frozenset[RevocationTarget]
    """What revocations cover that were begun a while ago and are not completed."""


@dataclass(frozen=True, slots=True)
class PollerId:
    """A worker that reads, as it wrote itself down. `home` is where its `pid` means something."""

    id: str
    pid_namespace: str
    pid: int


@dataclass(frozen=True, slots=True)
class PollerHeartbeat:
    """What a worker writes."""

    reader: PollerId
    count: int
    """Higher with each beat, also if the reader was taken off in between: equal counts mean that it has not written."""
    read_notice: FallbackNotice | None
    """The notice that it has read last."""
    home_redis: str
    """Which Redis it renews its lease at; empty for none."""


@dataclass(frozen=True, slots=True)
class PostedNotice:
    """A notice is up. `readers` are those who may count on a lease, with the count of the last beat of each."""

    notice: FallbackNotice
    readers: Mapping[PollerId, int]


class FallbackChannel(Protocol):
    """The place itself. Each method takes effect before it returns, and raises NoticesUnreachable."""

    def read_state(self, overdue_after_seconds: float) -> FallbackState:
        """The latest notice, and what was begun longer ago than `overdue_after_seconds`, by the place's own clock."""

    def write_heartbeat(self, heartbeat: PollerHeartbeat) -> FallbackNotice:
        """Write that a worker reads, and that it has read `beat.read` if that is the latest still; *then* read the
        latest."""

    def post_notice(self) -> PostedNotice:
        """Put up a new notice, *then* read who reads."""

    def readers_behind(self, notice: FallbackNotice) -> frozenset[PollerId]:
        """Who has not written that they have read this notice, or a later one."""

    def readers_with_other_home(self, redis: str) -> frozenset[PollerId]:
        """Who may hold a lease that another Redis than this one gave."""

    def heartbeat_counts(self) -> dict[PollerId, int]:
        """Every reader, with the count of its last beat."""

    def remove_readers(self, heartbeats: Mapping[PollerId, int]) -> None:
        """Take readers off, but for those that have written since."""

    def deregister(self, reader: PollerId) -> None:
        """Take oneself off, lease given up."""

    def add_intent(self, target: RevocationTarget) -> str:
        """Write down that `scope` is about to be revoked. Returns the intent's id."""

    def remove_intents(self, intents: Collection[str]) -> None:
        """These intents have their receipts. Those that are older than `INTENT_SECONDS` go as well."""
