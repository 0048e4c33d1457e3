"""What a revocation answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Channel(StrEnum):
    """How the workers were told."""

    REDIS = "redis"
    UNREACHABLE = "unreachable"
    """By a notice in the system database, since Redis could not be reached."""
    SPLIT = "split"
    """By a notice, since a worker may hold a lease from another Redis than the one that took the event."""


class RevocationUnconfirmed(Exception):
    """The change is committed, but it is not known whether every worker was told: the notices can't be reached.

    A worker that was not told may accept what it covers for as long as it remembers it. Revoking once more, when the
    notices are back, gives a receipt.
    """


@dataclass(frozen=True, slots=True)
class Receipt:
    """From the moment this is given, no request that starts is accepted with what was revoked."""

    workers: int
    """How many there were to tell."""
    acknowledged: int
    """How many of them said that they have forgotten."""
    ms: float
    """How long `revoke` took, in milliseconds."""
    publish_to_last_ack_ms: float | None = None
    """From the event to the last acknowledgement, by Redis's clock; None if some never came, or if there was nobody,
    or if they were told by a notice."""
    channel: Channel = Channel.REDIS

    @property
    def redis_reachable(self) -> bool:
        """False if Redis did not answer."""
        return self.channel is not Channel.UNREACHABLE

    @property
    def expired(self) -> int:
        """How many did not answer; their leases were waited out."""
        return self.workers - self.acknowledged

    def as_json(self) -> dict[str, Any]:
        """`{"workers": 4, "acknowledged": 4, "ms": 3.1}`; `lapsed` and `redis` only where there is something to say."""
        answer: dict[str, Any] = {
            "workers": self.workers,
            "acknowledged": self.acknowledged,
            "ms": round(self.ms, 1),
        }
        if self.expired:
            answer["lapsed"] = self.expired
        if self.channel is not Channel.REDIS:
            answer["redis"] = str(self.channel)
        return answer
