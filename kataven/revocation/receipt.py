"""The receipt that a revocation returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Channel(StrEnum):
    """How the workers received the revocation."""

    REDIS = "redis"
    UNREACHABLE = "unreachable"
    """Through a fallback notice, because Redis was unreachable."""
    SPLIT = "split"
    """Through a fallback notice, because a worker may have another home Redis than the one that accepted the event."""


class RevocationUnconfirmed(Exception):
    """The change is committed, but the fallback channel is unreachable, so it is unknown whether every worker applied
    it.

    A worker that did not may accept the credential until its cache entry expires. Revoking again, after the fallback
    channel is reachable, returns a receipt.
    """


@dataclass(frozen=True, slots=True)
class WorkerTimes:
    """When one worker received the event and evicted what it covers, in milliseconds after the publication."""

    worker: str
    heard_ms: float
    """By Redis's clock, less the worker's own measurement: includes the way of the acknowledgement."""
    forgotten_ms: float
    """When Redis received the acknowledgement, by its clock."""

    def as_json(self) -> dict[str, Any]:
        return {
            "worker": self.worker,
            "heard_ms": round(self.heard_ms, 3),
            "forgotten_ms": round(self.forgotten_ms, 3),
        }


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The event that a receipt is about, as Redis knows it."""

    ack_id: str
    published_at_microseconds: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """No request that starts after the receipt is returned is accepted with the revoked credential."""

    workers: int
    """How many workers had to apply the revocation."""
    acknowledged: int
    """How many of them reported that they had evicted what it covers."""
    ms: float
    """The duration of `revoke` in milliseconds."""
    publish_to_last_ack_ms: float | None = None
    """From the publication to the last acknowledgement, by Redis's clock. None if a worker did not acknowledge, if no
    worker was listed, or if a fallback notice was used."""
    channel: Channel = Channel.REDIS
    event: Acknowledged | None = field(default=None, repr=False, compare=False)
    """None if a fallback notice was used, or no worker acknowledged."""
    times: tuple[WorkerTimes, ...] = field(default=(), repr=False, compare=False)
    """By worker, those first that were first. Workers of an earlier release are missing."""

    @property
    def redis_reachable(self) -> bool:
        """False if Redis did not reply."""
        return self.channel is not Channel.UNREACHABLE

    @property
    def expired(self) -> int:
        """How many workers did not acknowledge; the revoker waited until their leases had expired."""
        return self.workers - self.acknowledged

    def as_json(self) -> dict[str, Any]:
        """`{"workers": 4, "acknowledged": 4, "ms": 3.1}`. `lapsed` is present if it is not 0, and `redis` if a fallback
        notice was used."""
        members: dict[str, Any] = {
            "workers": self.workers,
            "acknowledged": self.acknowledged,
            "ms": round(self.ms, 1),
        }
        if self.expired:
            members["lapsed"] = self.expired
        if self.channel is not Channel.REDIS:
            members["redis"] = str(self.channel)
        return members

    def as_detail(self) -> dict[str, Any]:
        """`receipt` and, if they are known, the `times` of each worker, for an audit event."""
        times = [one.as_json() for one in self.times]
        return {"receipt": self.as_json(), **({"times": times} if times else {})}
