"""Keeps the latest receipts and summarizes how long revocations take."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from kataven.revocation.receipt import Receipt

Observe = Callable[[Receipt], None]
KEPT_RECEIPTS = 1_000


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds: the median, the 99th percentile (nearest rank) and the maximum."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Percentiles | None:
        """None if there are no samples."""
        if not samples:
            return None
        ordered = sorted(samples)
        return cls(_rank(ordered, 0.50), _rank(ordered, 0.99), ordered[-1])


@dataclass(frozen=True, slots=True)
class Summary:
    """The latest revocations of this process."""

    count: int
    publish_to_last_ack: Percentiles | None
    whole_call: Percentiles | None


class RevocationLatencyLog:
    """Keeps the latest receipts and passes each one to the subscribers, on the thread that revoked."""

    def __init__(self) -> None:
        self._receipts: deque[Receipt] = deque(maxlen=KEPT_RECEIPTS)
        self._observers: list[Observe] = []
        self._lock = Lock()

    def subscribe(self, observe: Observe) -> None:
        self._observers.append(observe)

    def record(self, receipt: Receipt) -> None:
        with self._lock:
            self._receipts.append(receipt)
        for observe in self._observers:
            observe(receipt)

    def summary(self) -> Summary:
        with self._lock:
            receipts = list(self._receipts)
        eviction = [r.publish_to_last_ack_ms for r in receipts if r.publish_to_last_ack_ms is not None]
        return Summary(len(receipts), Percentiles.of(eviction), Percentiles.of([r.ms for r in receipts]))


def _rank(ordered: Sequence[float], fraction: float) -> float:
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]
