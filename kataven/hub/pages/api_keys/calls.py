"""The calls of keys: of one by hour, with addresses, routes and latest requests, and of the keys of a list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from flask import request

from kataven.account.models import UsageCaller
from kataven.hub import charts
from kataven.hub.charts import BarChart, Spark
from kataven.hub.page_blueprint import HubRequest
from kataven.hub.pages.requests import filters
from kataven.hub.pages.requests.rows import RequestRow, row_of
from kataven.tenancy.errors import SchemaMismatch
from kataven.usage import callers, keys, requests, series
from kataven.usage.keys import AddressCalls, RevocationPreview, RouteCalls
from kataven.usage.outcomes import CallOutcome
from kataven.usage.pending import ANY_ROUTE
from kataven.usage.requests import RequestSearch
from kataven.usage.series import UsageGroup, UsageInterval

MAX_LATEST: Final = 8
MAX_ADDRESSES: Final = 10
DAYS: Final = 7
SPARK_HOURS: Final = 24
_HOUR = timedelta(hours=1)
DAY, WEEK = "day", "week"
PERIODS: Final = {DAY: "24 hours", WEEK: f"{DAYS} days"}


@dataclass(frozen=True, slots=True)
class KeyCalls:
    """The calls of one key. Members see neither addresses nor user agents."""

    chart: BarChart
    period: str
    addresses: Sequence[AddressCalls]
    routes: Sequence[RouteCalls]
    """Without refused calls."""
    latest: Sequence[RequestRow]
    requests_path: str


@dataclass(frozen=True, slots=True)
class UseOfKey:
    """What the revocation of a key would stop, as far as it is known."""

    found: RevocationPreview
    addresses_last_hour: int
    is_capped: bool
    """Whether there may be more addresses than these."""
    requests_path: str

    @property
    def main_route(self) -> str | None:
        """The most called route of the last 24 hours."""
        return next((one.route for one in self.found.routes if one.route != ANY_ROUTE), None)


@dataclass(frozen=True, slots=True)
class UseOfKeys:
    """What the revocation of several keys would stop."""

    calls: Mapping[UUID, int] = field(default_factory=dict)
    """The calls of each key in the last 24 hours that were not refused."""
    last: Mapping[UUID, UsageCaller] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallsOfKeys:
    """The calls of the keys of a list within the last 24 hours, and the last call of each."""

    start: datetime
    sparks: Mapping[UUID, Spark] = field(default_factory=dict)
    last: Mapping[UUID, UsageCaller] = field(default_factory=dict)

    @property
    def hours(self) -> Sequence[str]:
        """The headings of the hours."""
        return [f"{self.start + at * _HOUR:%H}" for at in range(SPARK_HOURS)]


def calls_of_key(hub_request: HubRequest, key_id: UUID, now: datetime | None = None) -> KeyCalls | None:
    """The calls of a key in the period of this request. None if the account's database has no usage yet."""
    now = now or datetime.now(UTC)
    period = DAY if request.args.get("period") == DAY else WEEK
    start, end = _period(period, now)
    hours = hub_request.services.usage_policy.log_hours
    try:
        with hub_request.reading() as session:
            counted = series.counts(
                session, start, end, UsageInterval.HOUR, UsageGroup.OUTCOME, {"caller": str(key_id)}
            )
            routes = keys.routes(session, key_id, start)
            addresses: Sequence[AddressCalls] = ()
            if hub_request.may_manage:
                addresses = keys.addresses(session, key_id, now - timedelta(hours=48), MAX_ADDRESSES)
            found = requests.listing(session, MAX_LATEST, None, RequestSearch(caller=key_id), hours)
            names = callers.named(session, [key_id])
    except SchemaMismatch:
        return None

    def requests_of(start: datetime, end: datetime) -> str | None:
        return filters.of_caller(key_id, start, end) if end > now - timedelta(hours=hours) else None

    chart = charts.by_outcome(
        counted, UsageInterval.HOUR, f"Calls in {PERIODS[period]}, by hour", requests_of, "key-calls"
    )
    latest = [row_of(logged, names, with_addresses=hub_request.may_manage) for logged in found.rows]
    return KeyCalls(chart, period, addresses, routes, latest, filters.of_caller(key_id))


def use_of_key(hub_request: HubRequest, key_id: UUID) -> UseOfKey | None:
    """For the page that asks before a revocation. None if the account's database has no usage yet."""
    try:
        with hub_request.reading() as session:
            found = keys.preview(session, key_id, datetime.now(UTC))
    except SchemaMismatch:
        return None
    known = {one.address for one in found.addresses if one.address}
    is_capped = len(found.addresses) >= keys.MAX_ADDRESSES or not all(one.address for one in found.addresses)
    return UseOfKey(found, len(known), is_capped, filters.of_caller(key_id))


def use_of_keys(hub_request: HubRequest, key_ids: Collection[UUID]) -> UseOfKeys:
    """For the page that asks before a change of several keys. Empty if the account's database has no usage yet."""
    try:
        with hub_request.reading() as session:
            found = keys.by_key(session, key_ids, datetime.now(UTC) - timedelta(hours=24))
            last = keys.last_calls(session, key_ids)
    except SchemaMismatch:
        return UseOfKeys()
    accepted = {
        key: sum(calls for outcome, calls in outcomes.items() if outcome != CallOutcome.REFUSED)
        for key, outcomes in found.items()
    }
    return UseOfKeys(accepted, last)


def calls_of_keys(hub_request: HubRequest, key_ids: Collection[UUID]) -> CallsOfKeys:
    """For a list. Empty if the account's database has no usage yet."""
    start = _hour(datetime.now(UTC)) - (SPARK_HOURS - 1) * _HOUR
    try:
        with hub_request.reading() as session:
            hourly = keys.hourly(session, key_ids, start)
            last = keys.last_calls(session, key_ids)
    except SchemaMismatch:
        return CallsOfKeys(start)
    sparks = {key_id: charts.spark(hourly.get(key_id, {}), start, SPARK_HOURS) for key_id in key_ids}
    return CallsOfKeys(start, sparks, last)


def _period(period: str, now: datetime) -> tuple[datetime, datetime]:
    """Whole hours until now, or whole days until the end of today."""
    if period == DAY:
        end = _hour(now) + _HOUR
        return end - SPARK_HOURS * _HOUR, end
    end = _hour(now).replace(hour=0) + timedelta(days=1)
    return end - timedelta(days=DAYS), end


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
