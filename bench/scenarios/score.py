"""What was seen, and whether it is what was promised."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from kataven.revocation.latency_log import Percentiles


@dataclass(frozen=True, slots=True)
class Observation:
    """One request with a key: when its first byte was about to be sent, when its answer was here, and what it was."""

    started: float
    answered: float
    outcome: str
    """`accepted`, `revoked`, or the status and code of anything else."""


@dataclass
class Score:
    """Of one world."""

    rounds: int = 0
    requests: int = 0
    after_receipt: int = 0
    """Started after the receipt was out."""
    accepted: int = 0
    """Those of them that were let in. There must be none."""
    stale: int = 0
    """Let in by an answer that came after the receipt, to a request that had started before. That may happen."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """Anything but `accepted` before the revocation, and anything but `revoked` after it. There must be none."""
    calls_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """From the request of a revocation to its answer, by what was going on."""
    receipts: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Likewise."""
    evictions_ms: list[float] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the promise was kept."""
        return self.rounds > 0 and self.after_receipt > 0 and not self.accepted and not self.unexpected

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"{self.rounds} rounds, {self.requests:,} requests",
            f"{self.after_receipt:,} requests started after the receipt, {self.accepted} of them accepted",
        ]
        if self.stale:
            lines.append(f"{self.stale:,} answers of before the revocation arrived after the receipt, as they may")
        lines += [f"UNEXPECTED {count} x {what}" for what, count in self.unexpected.items()]
        for kind, calls in self.calls_ms.items():
            lines.append(_row(f"{kind}: PATCH", calls))
            lines.append(_row(f"{kind}: barrier", [receipt["ms"] for receipt in self.receipts[kind]]))
        if self.evictions_ms:
            lines.append(_row("publish to last eviction", self.evictions_ms))
        return lines


def _row(what: str, samples: list[float]) -> str:
    spread = Percentiles.of(samples)
    if spread is None:
        return f"{what:56} n    0"
    return f"{what:56} n {len(samples):4}   p50 {spread.p50:8.1f}   p99 {spread.p99:8.1f}   max {spread.max:8.1f} ms"
