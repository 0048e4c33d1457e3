"""How many requests of each account were refused by its limits (429) or failed (5xx), by the minute, for a day.

Each process counts in memory and adds its counts in the background. Only these responses are counted, so the others
cost a comparison.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.background import BackgroundLoop, jittered
from kataven.system.database import SystemDatabase
from kataven.system.models import ResponseMinute
from kataven.system.schema import system_has

log = logging.getLogger(__name__)

NEEDED_REVISION = "system_0012"
LIMITED, FAILED = "limited", "failed"
OTHERS = "*"
"""The account of responses without a verified account, and of those beyond `MAX_PENDING`."""
RETENTION = timedelta(days=1)
INTERVAL_SECONDS = 10.0
MAX_PENDING = 2_000

Key = tuple[datetime, str, str]
"""Minute, outcome and account."""


@dataclass(frozen=True, slots=True)
class MinuteCounts:
    """The responses of one minute, of all accounts."""

    minute: datetime
    limited: int
    failed: int


@dataclass(frozen=True, slots=True)
class LimitedAccount:
    """An account whose requests were refused by its limits."""

    account: str
    requests: int
    last_at: datetime
    """To the minute."""


def by_minute(session: Session, since: datetime) -> Sequence[MinuteCounts]:
    """The minutes with such responses, in order. Empty before `system_0012`."""
    if not system_has(session, NEEDED_REVISION):
        return []
    count = func.sum(ResponseMinute.count)
    found = session.execute(
        select(
            ResponseMinute.minute,
            func.coalesce(count.filter(ResponseMinute.outcome == LIMITED), 0),
            func.coalesce(count.filter(ResponseMinute.outcome == FAILED), 0),
        )
        .where(ResponseMinute.minute >= since)
        .group_by(ResponseMinute.minute)
        .order_by(ResponseMinute.minute)
    )
    return [MinuteCounts(minute, int(limited), int(failed)) for minute, limited, failed in found]


def most_limited(session: Session, since: datetime, limit: int) -> Sequence[LimitedAccount]:
    """The accounts with most refused requests. Empty before `system_0012`."""
    if not system_has(session, NEEDED_REVISION):
        return []
    count = func.sum(ResponseMinute.count)
    found = session.execute(
        select(ResponseMinute.account, count, func.max(ResponseMinute.minute))
        .where(ResponseMinute.minute >= since, ResponseMinute.outcome == LIMITED, ResponseMinute.account != OTHERS)
        .group_by(ResponseMinute.account)
        .order_by(count.desc(), ResponseMinute.account)
        .limit(limit)
    )
    return [LimitedAccount(account, int(requests), last_at) for account, requests, last_at in found]


class ResponseHistory:
    """Counts the responses of this process, and writes the counts in the background. Thread-safe."""

    def __init__(self, database: SystemDatabase, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: Counter[Key] = Counter()
        self._thread = BackgroundLoop("response-history", self.flush, jittered(INTERVAL_SECONDS))

    def record(self, status: int, account: str | None) -> None:
        """Count a response, if it is 429 or 5xx. `account` must be verified. Called on the request's thread."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._add(FAILED, account or OTHERS)
        elif status == HTTPStatus.TOO_MANY_REQUESTS and account is not None:
            self._add(LIMITED, account)

    def _add(self, outcome: str, account: str) -> None:
        minute = datetime.fromtimestamp(self._clock() // 60 * 60, UTC)
        with self._lock:
            self._count((minute, outcome, account), 1)

    def _count(self, key: Key, count: int) -> None:
        """With the lock held."""
        if key not in self._pending and len(self._pending) >= MAX_PENDING:
            key = (*key[:2], OTHERS)
        self._pending[key] += count

    def flush(self) -> None:
        """Write what is pending. Before `system_0012` it is dropped. If the database is unavailable, it is kept."""
        with self._lock:
            taken, self._pending = self._pending, Counter()
        if not taken:
            return
        try:
            with self._database.writing() as session:
                if system_has(session, NEEDED_REVISION):
                    _write(session, taken)
        except Exception as error:
            log.warning("response history not stored", extra={"error": type(error).__name__})
            with self._lock:
                for key, count in taken.items():
                    self._count(key, count)

    def start(self) -> None:
        """Start the background thread of this process."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and write what is pending."""
        self._thread.stop(timeout=5)
        self.flush()


def _write(session: Session, taken: Counter[Key]) -> None:
    # In the order of the primary key, so that two processes lock the same rows in the same order.
    rows = [
        {"minute": minute, "outcome": outcome, "account": account, "count": count}
        for (minute, outcome, account), count in sorted(taken.items())
    ]
    statement = insert(ResponseMinute).values(rows)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["minute", "outcome", "account"],
            set_={"count": ResponseMinute.count + statement.excluded.count},
        )
    )
    session.execute(delete(ResponseMinute).where(ResponseMinute.minute < func.now() - RETENTION))
