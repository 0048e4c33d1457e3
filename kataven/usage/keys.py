"""The usage of single API keys: their last call, calls and addresses, and what a revocation would stop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from kataven.account.errors import NotFound
from kataven.account.models import ApiKey, UsageCaller
from kataven.usage.policy import MINUTES_KEPT

MAX_ADDRESSES = 50
MAX_ROUTES = 10
BY_MINUTE = MINUTES_KEPT - timedelta(hours=2)
"""For how long refused calls since a moment are counted from its minute: minutes may be removed while they are read."""


@dataclass(frozen=True, slots=True)
class AddressCalls:
    """The calls from an address. The empty address: those from more addresses than are kept apart."""

    address: str
    agent: str
    calls: int
    last_at: datetime
    route: str
    """Of the last call."""


@dataclass(frozen=True, slots=True)
class RouteCalls:
    """The calls of a route."""

    route: str
    calls: int


@dataclass(frozen=True, slots=True)
class RevocationPreview:
    """What a revocation of a key would stop: its accepted calls."""

    name: str
    last: UsageCaller | None
    calls_last_hour: int
    calls_last_day: int
    """From the start of the hour that was 24 hours ago."""
    addresses: Sequence[AddressCalls]
    """Of the last hour."""
    routes: Sequence[RouteCalls]
    """Of the last day."""

    @property
    def in_use(self) -> bool:
        """Whether it was accepted within the last hour."""
        return self.calls_last_hour > 0


_BY_KEY = text(
    """
    SELECT caller::text AS caller, hour, outcome, sum(calls)::bigint AS calls FROM usage_hours
    WHERE caller = ANY(CAST(:keys AS uuid[])) AND hour >= :since GROUP BY 1, 2, 3 ORDER BY 2
    """
)
_ADDRESSES = text(
    """
    SELECT address, agent, sum(calls)::bigint AS calls, max(last_at) AS last_at,
           (array_agg(route ORDER BY last_at DESC))[1] AS route
    FROM usage_addresses
    WHERE caller = CAST(:key AS uuid) AND last_at >= :since
      AND hour >= date_trunc('hour', CAST(:since AS timestamptz), 'UTC')
    GROUP BY 1, 2 ORDER BY 4 DESC LIMIT :at_most
    """
)
_ROUTES = text(
    """
    SELECT route, sum(calls)::bigint AS calls FROM usage_hours
    WHERE caller = CAST(:key AS uuid) AND hour >= :since AND outcome <> 'refused'
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT :at_most
    """
)
_CALLS_SINCE = text(
    """
    SELECT coalesce(sum(calls), 0)::bigint FROM usage_minutes
    WHERE caller = CAST(:key AS uuid) AND outcome <> 'refused'
      AND minute >= date_trunc('minute', CAST(:since AS timestamptz), 'UTC')
    """
)
_CALLS_OF_DAY = text(
    """
    SELECT coalesce(sum(calls), 0)::bigint FROM usage_hours
    WHERE caller = CAST(:key AS uuid) AND outcome <> 'refused'
      AND hour >= date_trunc('hour', CAST(:since AS timestamptz), 'UTC')
    """
)
_REFUSED = text(
    """
    SELECT coalesce(sum(calls), 0)::bigint FROM (
        SELECT calls FROM usage_hours
        WHERE caller = CAST(:caller AS uuid) AND code = ANY(:codes) AND hour >= :whole_hours
        UNION ALL
        SELECT calls FROM usage_minutes
        WHERE caller = CAST(:caller AS uuid) AND code = ANY(:codes)
          AND minute >= :first_minute AND minute < :whole_hours
    ) AS counted
    """
)


def last_calls(session: Session, key_ids: Collection[UUID]) -> Mapping[UUID, UsageCaller]:
    """The last call of each key or user that was ever called within the retention."""
    if not key_ids:
        return {}
    found = session.query(UsageCaller).filter(UsageCaller.caller.in_(key_ids))
    return {last.caller: last for last in found}


def hourly(session: Session, key_ids: Collection[UUID], since: datetime) -> Mapping[UUID, Mapping[datetime, int]]:
    """The calls of each key by hour, of every outcome, for the sparklines of a list of keys."""
    found: dict[UUID, dict[datetime, int]] = {}
    for caller, hour, _outcome, calls in _of_keys(session, key_ids, since):
        hours = found.setdefault(UUID(caller), {})
        hours[hour] = hours.get(hour, 0) + calls
    return found


def by_key(session: Session, key_ids: Collection[UUID], since: datetime) -> Mapping[UUID, Mapping[str, int]]:
    """The calls of each key by outcome."""
    found: dict[UUID, dict[str, int]] = {}
    for caller, _hour, outcome, calls in _of_keys(session, key_ids, since):
        outcomes = found.setdefault(UUID(caller), {})
        outcomes[outcome] = outcomes.get(outcome, 0) + calls
    return found


def addresses(session: Session, key_id: UUID, since: datetime, at_most: int = MAX_ADDRESSES) -> Sequence[AddressCalls]:
    """The addresses of a key, those with the latest call first. Kept for 48 hours, and counted by hour."""
    rows = session.connection().execute(_ADDRESSES, {"key": str(key_id), "since": since, "at_most": at_most})
    return [AddressCalls(*row) for row in rows]


def routes(session: Session, key_id: UUID, since: datetime, at_most: int = MAX_ROUTES) -> Sequence[RouteCalls]:
    """The routes that a key called most, without refused calls."""
    rows = session.connection().execute(_ROUTES, {"key": str(key_id), "since": since, "at_most": at_most})
    return [RouteCalls(*row) for row in rows]


def require(session: Session, key_id: UUID) -> ApiKey:
    """Raises NotFound."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFound("API key")
    return key


def preview(session: Session, key_id: UUID, now: datetime) -> RevocationPreview:
    """What a revocation of the key would stop. Raises NotFound."""
    name = require(session, key_id).name
    hour, day = now - timedelta(hours=1), now - timedelta(hours=24)
    execute = session.connection().execute
    return RevocationPreview(
        name,
        last_calls(session, [key_id]).get(key_id),
        execute(_CALLS_SINCE, {"key": str(key_id), "since": hour}).scalar_one(),
        execute(_CALLS_OF_DAY, {"key": str(key_id), "since": day}).scalar_one(),
        addresses(session, key_id, hour),
        routes(session, key_id, day),
    )


def refused_since(session: Session, caller: UUID, codes: Collection[str], since: datetime) -> int:
    """How many calls of a key or user were refused with one of these codes since a moment.

    Counted from the start of its minute; for a moment that is longer ago than `BY_MINUTE`, from the start of its hour.
    """
    hour = since.replace(minute=0, second=0, microsecond=0)
    now: datetime = session.connection().execute(text("SELECT now()")).scalar_one()
    by_minute = now - since < BY_MINUTE
    values = {
        "caller": str(caller),
        "codes": list(codes),
        "first_minute": since.replace(second=0, microsecond=0),
        "whole_hours": hour + timedelta(hours=1) if by_minute else hour,
    }
    calls: int = session.connection().execute(_REFUSED, values).scalar_one()
    return calls


def _of_keys(session: Session, key_ids: Collection[UUID], since: datetime) -> Sequence[tuple[str, datetime, str, int]]:
    if not key_ids:
        return []
    hour = since.replace(minute=0, second=0, microsecond=0)
    rows = session.connection().execute(_BY_KEY, {"keys": [str(key) for key in key_ids], "since": hour})
    return [(row.caller, row.hour, row.outcome, row.calls) for row in rows]
