"""How long revocations took, by the minute, for 90 days: percentiles for operators.

Percentiles of several processes can't be combined, but histograms can. Each process adds the revocations of a minute to
logarithmic buckets; a percentile is off by at most 5 %, and the maximum is exact.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.background import BackgroundLoop, jittered
from kataven.revocation.receipt import Receipt
from kataven.system.database import SystemDatabase
from kataven.system.models import RevocationMinute
from kataven.system.schema import system_has

log = logging.getLogger(__name__)

NEEDED_REVISION = "system_0010"
RETENTION = timedelta(days=90)
REVOCATION, CANARY = "revocation", "canary"
RECEIPT, EVICTION = "receipt", "eviction"
INTERVAL_SECONDS = 15.0
MAX_PENDING = 10_000
BUCKETS_PER_DOUBLING = 8
_LEAST_MS = 0.05

Taken = tuple[float, Receipt]
"""A receipt, and when it was returned, in seconds since the Unix epoch."""


@dataclass(frozen=True, slots=True)
class MinutePercentiles:
    """The revocations of one interval, in milliseconds."""

    at: datetime
    count: int
    p50: float
    p99: float
    max: float


def bucket_of(milliseconds: float) -> int:
    """The bucket of a duration. Buckets grow by 9 %."""
    return max(0, math.ceil(math.log2(max(milliseconds, _LEAST_MS) / _LEAST_MS) * BUCKETS_PER_DOUBLING))


def middle_of(bucket: int) -> float:
    """The middle of a bucket, in milliseconds."""
    return _LEAST_MS * math.pow(2, (bucket - 0.5) / BUCKETS_PER_DOUBLING) if bucket else _LEAST_MS


def add(session: Session, source: str, taken: Iterable[Taken]) -> None:
    """Add revocations to the history, and remove what is older than `RETENTION`."""
    rows: dict[tuple[datetime, str, int], tuple[int, float]] = {}
    for at, receipt in taken:
        minute = datetime.fromtimestamp(at // 60 * 60, UTC)
        for measure, ms in ((RECEIPT, receipt.ms), (EVICTION, receipt.publish_to_last_ack_ms)):
            if ms is not None:
                key = minute, measure, bucket_of(ms)
                count, slowest = rows.get(key, (0, 0.0))
                rows[key] = count + 1, max(slowest, ms)
    if rows:
        # In the order of the primary key, so that two processes lock the same rows in the same order.
        statement = insert(RevocationMinute).values(
            [
                {
                    "minute": minute,
                    "source": source,
                    "measure": measure,
                    "bucket": bucket,
                    "count": count,
                    "slowest_ms": slowest,
                }
                for (minute, measure, bucket), (count, slowest) in sorted(rows.items())
            ]
        )
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["minute", "source", "measure", "bucket"],
                set_={
                    "count": RevocationMinute.count + statement.excluded.count,
                    "slowest_ms": func.greatest(RevocationMinute.slowest_ms, statement.excluded.slowest_ms),
                },
            )
        )
    session.execute(delete(RevocationMinute).where(RevocationMinute.minute < func.now() - RETENTION))


def percentiles(
    session: Session, source: str, measure: str, since: datetime, until: datetime, interval: str = "minute"
) -> Sequence[MinutePercentiles]:
    """The percentiles by `minute`, `hour` or `day`, without intervals that had no revocation. Empty before
    `system_0010`."""
    if not system_has(session, NEEDED_REVISION):
        return []
    at = func.date_trunc(interval, RevocationMinute.minute, "UTC").label("at")
    found = session.execute(
        select(at, RevocationMinute.bucket, func.sum(RevocationMinute.count), func.max(RevocationMinute.slowest_ms))
        .where(
            RevocationMinute.source == source,
            RevocationMinute.measure == measure,
            RevocationMinute.minute >= since,
            RevocationMinute.minute < until,
        )
        .group_by(at, RevocationMinute.bucket)
        .order_by(at, RevocationMinute.bucket)
    )
    intervals: dict[datetime, dict[int, int]] = {}
    slowest: dict[datetime, float] = {}
    for when, bucket, count, most in found:
        intervals.setdefault(when, {})[bucket] = int(count)
        slowest[when] = max(slowest.get(when, 0.0), most)
    return [_summary(when, counts, slowest[when]) for when, counts in intervals.items()]


def _summary(at: datetime, counts: Mapping[int, int], slowest: float) -> MinutePercentiles:
    count = sum(counts.values())

    def rank(fraction: float) -> float:
        left = max(1, math.ceil(fraction * count))
        for bucket, here in counts.items():
            left -= here
            if left <= 0:
                return min(middle_of(bucket), slowest)
        return slowest

    return MinutePercentiles(at, count, rank(0.50), rank(0.99), slowest)


class RevocationHistory:
    """Writes the revocations of this process in the background. They are kept while the system database is unavailable,
    up to `MAX_PENDING`."""

    def __init__(self, database: SystemDatabase, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._pending: deque[Taken] = deque(maxlen=MAX_PENDING)
        self._thread = BackgroundLoop("revocation-history", self.flush, jittered(INTERVAL_SECONDS))

    def record(self, receipt: Receipt) -> None:
        """Called on the thread that revoked."""
        self._pending.append((self._clock(), receipt))

    def flush(self) -> None:
        """Write what is pending. Before `system_0010` it is dropped."""
        taken = [self._pending.popleft() for _ in range(len(self._pending))]
        if not taken:
            return
        try:
            with self._database.writing() as session:
                if system_has(session, NEEDED_REVISION):
                    add(session, REVOCATION, taken)
        except Exception as error:
            log.warning("revocation history not stored", extra={"error": type(error).__name__})
            self._pending.extendleft(reversed(taken))

    def start(self) -> None:
        """Start the background thread of this process."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and write what is pending."""
        self._thread.stop(timeout=5)
        self.flush()
