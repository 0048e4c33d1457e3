"""What a revocation answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class NobodyTold(Exception):
    """The change is committed, but neither Redis nor the notices can be reached to tell the workers.

    Those that can be reached by others may accept what it covers for as long as they remember it. Revoking once more,
    when either is back, gives a receipt.
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
    redis_reachable: bool = True
    """False if Redis did not answer and the workers were told by a notice."""

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
