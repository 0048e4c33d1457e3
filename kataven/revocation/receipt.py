"""What a revocation answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Receipt:
    """From the moment this is given, no request that starts is accepted with what was revoked."""

    workers: int
    """How many were on the list when the event went out. 0 if Redis could not be reached."""
    acknowledged: int
    """How many of them said that they have forgotten."""
    ms: float
    """How long `revoke` took, in milliseconds."""
    publish_to_last_ack_ms: float | None = None
    """From the event to the last acknowledgement, by Redis's clock; None if some never came or there was nobody."""
    redis_reachable: bool = True
    """False if Redis did not answer for one lease, after which no worker that depends on it still has one."""

    @property
    def lapsed(self) -> int:
        """How many did not answer; their leases were waited out."""
        return self.workers - self.acknowledged

    def as_json(self) -> dict[str, Any]:
        """`{"workers": 4, "acknowledged": 4, "ms": 3.1}`; `lapsed` and `redis` only where there is something to say."""
        answer: dict[str, Any] = {
            "workers": self.workers,
            "acknowledged": self.acknowledged,
            "ms": round(self.ms, 1),
        }
        if self.lapsed:
            answer["lapsed"] = self.lapsed
        if not self.redis_reachable:
            answer["redis"] = "unreachable"
        return answer
