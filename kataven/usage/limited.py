"""Which limits refused an account's requests, whose requests they were, and since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

PERIOD = timedelta(hours=24)
MAX_CALLERS = 10


@dataclass(frozen=True, slots=True)
class LimitRefusals:
    """The logged requests that one limit refused."""

    limit: str
    """Such as `per-minute`; `key-per-minute` is a key's own."""
    requests: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class CallerRefusals:
    """The refused requests of one key or user."""

    caller: UUID
    kind: str
    name: str
    requests: int


@dataclass(frozen=True, slots=True)
class AccountRefusals:
    """The requests of the last 24 hours that were refused by a limit."""

    requests: int
    first_at: datetime | None = None
    last_at: datetime | None = None
    """To the minute."""
    limits: Sequence[LimitRefusals] = ()
    """From the request log, the limit with most refusals first. A request can exceed several limits."""
    callers: Sequence[CallerRefusals] = ()
    """Those with most refusals. Counted from the start of the hour that was 24 hours ago."""


_TOTAL = text(
    """SELECT coalesce(sum(calls), 0)::bigint AS requests, min(start) AS first_at, max(start) AS last_at
       FROM usage_totals WHERE period = 60 AND start >= now() - :period AND outcome = 'limited'"""
)
_LIMITS = text(
    """SELECT item ->> 'limit' AS name, count(*) AS requests, min(created_at) AS first_at, max(created_at) AS last_at
       FROM request_log, jsonb_array_elements(limits) AS item
       WHERE created_at >= now() - :period AND outcome = 'limited' AND (item ->> 'left')::bigint <= 0
       GROUP BY 1 ORDER BY 2 DESC, 1"""
)
_CALLERS = text(
    """SELECT counted.caller, counted.kind, counted.requests, coalesce(api_keys.name, '') AS name
       FROM (
           SELECT caller, kind, sum(calls)::bigint AS requests FROM usage_hours
           WHERE hour >= date_trunc('hour', now() - :period, 'UTC') AND outcome = 'limited'
           GROUP BY 1, 2 ORDER BY 3 DESC, 1 LIMIT :most
       ) AS counted LEFT JOIN api_keys ON api_keys.id = counted.caller ORDER BY 3 DESC, 1"""
)
_NAMES = text(
    """SELECT caller, max(name) AS name FROM request_log
       WHERE created_at >= now() - :period AND outcome = 'limited' AND caller = ANY(CAST(:callers AS uuid[]))
       GROUP BY 1"""
)


def refusals(session: Session, period: timedelta = PERIOD) -> AccountRefusals:
    """The refusals of an account, from its own database. At most four statements; none reads more than a day."""
    execute = session.connection().execute
    total = execute(_TOTAL, {"period": period}).one()
    if not total.requests:
        return AccountRefusals(0)
    limits = [LimitRefusals(*row) for row in execute(_LIMITS, {"period": period})]
    found = execute(_CALLERS, {"period": period, "most": MAX_CALLERS}).all()
    named = execute(_NAMES, {"period": period, "callers": [str(row.caller) for row in found]})
    names: Mapping[UUID, str] = {row.caller: row.name for row in named}
    callers = [
        CallerRefusals(row.caller, row.kind, row.name or names.get(row.caller, ""), row.requests) for row in found
    ]
    return AccountRefusals(total.requests, total.first_at, total.last_at, limits, callers)
