"""`/v1/usage`: how often the account was called. `/v1/receipts`: the receipts of its revocations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Response
from pydantic import Field

from kataven.usage import series
from kataven.usage.outcomes import CallOutcome
from kataven.usage.series import LENGTHS, LONGEST, Series, UsageGroup, UsageInterval
from kataven.validation import Shaped
from kataven.web.access import READ
from kataven.web.inputs.times import Time
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.problems import FieldError, InvalidRequest
from kataven.web.request_context import RequestContext
from kataven.web.schema import Query, View, write_json

blueprint = ApiBlueprint("usage", __name__, "usage", "How often the account was called, by outcome, route and caller.")

DEFAULT_POINTS = 24
Route = Annotated[str, Shaped(r"^[ -~]{1,300}$", "must be a method and a path, like GET /v1/agents")]


OutcomeName = Literal["ok", "invalid", "refused", "limited", "failed"]


class UsageQuery(Query):
    """The period of a series, and by what calls are counted."""

    interval: Literal["minute", "hour", "day"] = Field(default="hour", description="The length of one point.")
    start: Time | None = Field(
        default=None,
        description="Rounded down to the interval. By default 24 intervals before `end`. Counts by minute exist for 48 "
        "hours, and by hour and day for 90 days, unless the operator sets another retention.",
    )
    end: Time | None = Field(
        default=None,
        description="By default now. A series has at most 24 hours of minutes, 31 days of hours, or 366 days.",
    )
    group_by: Literal["outcome", "code", "route", "caller"] = Field(
        default="outcome", description="By what calls are counted."
    )
    caller: UUID | None = Field(default=None, description="Only calls of this API key or user, by its ID.")
    route: Route | None = Field(default=None, description="Only calls of this route, such as `GET /v1/agents`.")
    outcome: OutcomeName | None = Field(default=None, description="Only calls with this outcome.")


class UsagePointView(View):
    """The calls within one interval. Intervals without calls are omitted."""

    at: datetime
    calls: int


class UsageLineView(View):
    """The calls of one group."""

    group: str = Field(description="The value of `group_by`. `*`: more groups than are returned, added up.")
    calls: int
    average_ms: float = Field(description="The average time that a call took.")
    points: list[UsagePointView]


class UsageLossView(View):
    """What is missing from the period, because the memory of a worker was full."""

    calls: int = Field(description="Requests that are in no count.")
    requests: int = Field(description="Refusals that are counted, but are not in the request log.")


class UsageView(View):
    """The calls of a period, by group: those with most calls first."""

    start: datetime
    end: datetime
    interval: UsageInterval
    group_by: UsageGroup
    calls: int
    lost: UsageLossView
    series: list[UsageLineView]


class LastCallView(View):
    """The last call of an API key or user."""

    at: datetime
    address: str
    user_agent: str = Field(description="The family of the user agent, such as `curl`.")
    route: str
    outcome: CallOutcome
    code: str | None


@blueprint.operation(
    "GET",
    "/v1/usage",
    access=READ,
    summary="Count calls",
    response=ResponseSpec(200, "The calls of the period, by group.", UsageView),
    query=UsageQuery,
)
def read_usage(context: RequestContext, query: UsageQuery) -> Response:
    """Counts the account's API calls. A call is counted within about 20 seconds. Calls without a valid credential, and
    pages of the Hub, are not counted."""
    start, end = _period(query)
    filters = {"caller": _text(query.caller), "route": query.route or "", "outcome": query.outcome or ""}
    with context.reading() as session:
        interval, group = UsageInterval(query.interval), UsageGroup(query.group_by)
        found = series.counts(session, start, end, interval, group, filters)
    return write_json(_shape(found, query))


def _period(query: UsageQuery) -> tuple[datetime, datetime]:
    interval = UsageInterval(query.interval)
    end = query.end or datetime.now(UTC)
    start = query.start or end - LENGTHS[interval] * DEFAULT_POINTS
    if start >= end:
        raise InvalidRequest([FieldError("start", "must be before end")])
    if end - start > LONGEST[interval]:
        hours = LONGEST[interval] // timedelta(hours=1)
        raise InvalidRequest([FieldError("start", f"must be at most {hours} hours before end for this interval")])
    return start, end


def _shape(found: Series, query: UsageQuery) -> dict[str, Any]:
    return {
        "start": found.start,
        "end": found.end,
        "interval": query.interval,
        "group_by": query.group_by,
        "calls": found.calls,
        "lost": {"calls": found.lost.calls, "requests": found.lost.requests},
        "series": [
            {
                "group": line.group,
                "calls": line.calls,
                "average_ms": line.average_ms,
                "points": [{"at": point.at, "calls": point.calls} for point in line.points],
            }
            for line in found.lines
        ],
    }


def _text(value: UUID | None) -> str:
    return "" if value is None else str(value)
