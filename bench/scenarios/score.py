"""The results of a scenario, and whether they satisfy the guarantee."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from kataven.revocation.latency_log import Percentiles


@dataclass(frozen=True, slots=True)
class Observation:
    """One request with a key: the time before its first byte was sent, the time after its response, and the outcome."""

    started: float
    answered: float
    outcome: str
    """`accepted`, `revoked`, or the status and code of any other response."""


@dataclass
class Score:
    """The results of one scenario."""

    rounds: int = 0
    requests: int = 0
    after_receipt: int = 0
    """Requests that started after the receipt."""
    accepted: int = 0
    """How many of these were accepted. Must be 0."""
    stale: int = 0
    """Accepted responses after the receipt to requests that had started before it. These are allowed."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """Any response but `accepted` before the revocation, and any but `revoked` after it. Must be empty."""
    calls_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """From the request of a revocation to its response, by fault."""
    receipts: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """By fault."""
    evictions_ms: list[float] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether the guarantee held."""
        return self.rounds > 0 and self.after_receipt > 0 and not self.accepted and not self.unexpected

    def lines(self) -> list[str]:
        """The report."""
        lines = [
            f"{self.rounds} rounds, {self.requests:,} requests",
            f"{self.after_receipt:,} requests started after the receipt, {self.accepted} of them accepted",
        ]
        if self.stale:
            lines.append(
                f"{self.stale:,} responses to requests from before the receipt arrived after it, which is allowed"
            )
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
