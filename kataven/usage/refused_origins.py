"""Counts the web pages that widget keys refused, by origin, without I/O on the request path.

    record   counts in memory: the request path
    thread   adds the counts to the account's database every few seconds

Anyone can send any `Origin` with a public widget key, so everything is bounded: origins per account and accounts in
memory, and origins per account in the database. Further ones are counted together, under the empty origin. A batch that
fails is kept and written again; if only the reply was lost, it counts twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Protocol
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from kataven.account.models import WidgetRefusal
from kataven.background import BackgroundLoop
from kataven.tenancy.errors import NoTenant

log = logging.getLogger(__name__)

NEEDED_REVISION = "account_0008"
MAX_ORIGINS = 50
"""Origins of one account that a process keeps apart until they are written."""
MAX_ACCOUNTS = 1_000
"""Accounts with counts that are not written yet. Refusals of further accounts are not counted."""
MAX_STORED_ORIGINS = 100
"""Origins of one account within 24 hours. Two workers that write at the same moment can exceed it by `MAX_ORIGINS`."""
KEPT = timedelta(hours=48)
SHOWN = 50
INTERVAL_SECONDS = 5.0
HOUR = 3600
OTHERS = ""

Key = tuple[int, str, str]
"""The hour, the id of the widget key, and the origin."""
Counts = Mapping[Key, Sequence[float]]
"""The number of refusals, and the time of the last one."""


@dataclass(frozen=True, slots=True)
class RefusedOrigin:
    """An origin that a widget key refused."""

    origin: str
    """Empty for the origins that are not kept apart."""
    key_id: UUID
    calls: int
    last_at: datetime


class RefusalStore(Protocol):
    """The databases of the accounts."""

    def write(self, account: str, counts: Counts) -> None:
        """Add the counts. May raise any exception."""


class RefusedOrigins:
    """The refusals that one process saw. `record` is safe to call from any thread."""

    def __init__(self, store: RefusalStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._pending: dict[str, dict[Key, list[float]]] = {}
        self._lock = Lock()
        self._thread = BackgroundLoop("refused-origins", self.flush, lambda: INTERVAL_SECONDS)

    def record(self, account: str, key_id: UUID, origin: str) -> None:
        """Count a refusal. Does not block on I/O and does not raise."""
        at = self._clock()
        with self._lock:
            counts = self._pending.get(account)
            if counts is None:
                if len(self._pending) >= MAX_ACCOUNTS:
                    return
                counts = self._pending[account] = {}
            _add(counts, (int(at) // HOUR * HOUR, str(key_id), origin), 1, at)

    def flush(self) -> None:
        """Write what was counted. What can't be written is kept."""
        with self._lock:
            taken, self._pending = self._pending, {}
        for account, counts in taken.items():
            try:
                self._store.write(account, counts)
            except NoTenant:
                continue
            except Exception as error:
                # An error in one account's database must not prevent writing the counts of other accounts.
                log.warning(
                    "refused origins not stored; they are kept and written later",
                    extra={"account": account, "error": type(error).__name__},
                )
                self._keep(account, counts)

    def start(self) -> None:
        """Start the background thread of this process."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and write what was counted."""
        self._thread.stop(timeout=INTERVAL_SECONDS)
        self.flush()

    def _keep(self, account: str, counts: Counts) -> None:
        with self._lock:
            if account not in self._pending and len(self._pending) >= MAX_ACCOUNTS:
                return
            kept, oldest = self._pending.setdefault(account, {}), self._clock() - KEPT.total_seconds()
            for key, (calls, at) in counts.items():
                if key[0] >= oldest:
                    _add(kept, key, calls, at)


def _add(counts: dict[Key, list[float]], key: Key, calls: float, at: float) -> None:
    if key not in counts and key[2] != OTHERS and len({origin for _, _, origin in counts}) >= MAX_ORIGINS:
        key = (key[0], key[1], OTHERS)
    row = counts.setdefault(key, [0, at])
    row[0] += calls
    row[1] = max(row[1], at)


_WRITE = text(
    f"""
    WITH given AS (
        SELECT to_timestamp(hour) AS hour, key_id, origin, calls, to_timestamp(at) AS at
        FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS rows(hour bigint, key_id uuid, origin text, calls bigint,
                                                              at float8)
    ), known AS (
        SELECT DISTINCT origin FROM widget_refusals WHERE hour >= now() - interval '24 hours' AND origin <> ''
    ), ranked AS (
        SELECT origin, row_number() OVER (ORDER BY sum(calls) DESC, origin) AS place FROM given
        WHERE origin <> '' AND origin NOT IN (SELECT origin FROM known) GROUP BY origin
    ), kept AS (
        SELECT origin FROM known UNION ALL
        SELECT origin FROM ranked WHERE place <= {MAX_STORED_ORIGINS} - (SELECT count(*) FROM known)
    ), placed AS (
        SELECT hour, key_id, coalesce(kept.origin, '') AS origin, sum(calls) AS calls, max(at) AS at
        FROM given LEFT JOIN kept USING (origin) GROUP BY 1, 2, 3
    ), old AS (
        DELETE FROM widget_refusals WHERE hour < now() - make_interval(secs => :kept_seconds)
    )
    INSERT INTO widget_refusals AS stored (hour, key_id, origin, calls, last_at)
    SELECT hour, key_id, origin, calls, at FROM placed ORDER BY 1, 2, 3
    ON CONFLICT (hour, key_id, origin)
    DO UPDATE SET calls = stored.calls + excluded.calls, last_at = greatest(stored.last_at, excluded.last_at)
    """  # noqa: S608  constants
)
_LAST_DAY = text(
    """
    SELECT origin, key_id, CAST(sum(calls) AS bigint) AS calls, max(last_at) AS last_at FROM widget_refusals
    WHERE last_at >= now() - interval '24 hours' AND hour >= now() - interval '25 hours'
    GROUP BY 1, 2 ORDER BY origin = '', 3 DESC, 1, 2 LIMIT :at_most
    """
)
_EXISTS = text(f"SELECT to_regclass('{WidgetRefusal.__tablename__}') IS NOT NULL")


def is_available(session: Session) -> bool:
    """Whether the account's database has the table."""
    return bool(session.connection().execute(_EXISTS).scalar_one())


def write(session: Session, counts: Counts) -> None:
    """Add counts, and remove those that are older than `KEPT`. Nothing happens before `account_0008`."""
    if not is_available(session):
        return
    rows: list[dict[str, Any]] = [
        {"hour": hour, "key_id": key_id, "origin": origin, "calls": int(calls), "at": at}
        for (hour, key_id, origin), (calls, at) in sorted(counts.items())
    ]
    values = {"rows": orjson.dumps(rows).decode(), "kept_seconds": KEPT.total_seconds()}
    session.connection().execute(_WRITE, values)


def last_day(session: Session, at_most: int = SHOWN) -> Sequence[RefusedOrigin]:
    """The refusals of the last 24 hours, those with most calls first. By hour: refusals that are up to an hour older
    are included if the same origin was refused again."""
    return [RefusedOrigin(*row) for row in session.connection().execute(_LAST_DAY, {"at_most": at_most})]
