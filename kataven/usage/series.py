"""How often an account was called over time, by outcome, problem code, route or caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from kataven.usage.outcomes import CallOutcome
from kataven.usage.policy import MINUTES_KEPT

MAX_GROUPS = 20
"""How many groups are returned; the others are added up."""
OTHERS = "*"
"""The group of the others, and of calls that were counted without their caller and route."""


class UsageInterval(StrEnum):
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class UsageGroup(StrEnum):
    """By what calls are counted."""

    OUTCOME = "outcome"
    CODE = "code"
    ROUTE = "route"
    CALLER = "caller"


LENGTHS = {
    UsageInterval.MINUTE: timedelta(minutes=1),
    UsageInterval.HOUR: timedelta(hours=1),
    UsageInterval.DAY: timedelta(days=1),
}
LONGEST = {
    UsageInterval.MINUTE: timedelta(hours=24),
    UsageInterval.HOUR: timedelta(days=31),
    UsageInterval.DAY: timedelta(days=366),
}
"""The longest period of a series."""


@dataclass(frozen=True, slots=True)
class Point:
    """The calls within one interval."""

    at: datetime
    calls: int


@dataclass(frozen=True, slots=True)
class Line:
    """The calls of one group. `points` has only intervals with calls."""

    group: str
    calls: int
    average_ms: float
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Loss:
    """What is missing from a period, because the memory of a worker was full."""

    calls: int
    requests: int


@dataclass(frozen=True, slots=True)
class Series:
    """The calls of a period, by group: those with most calls first."""

    start: datetime
    end: datetime
    lines: Sequence[Line]
    lost: Loss

    @property
    def calls(self) -> int:
        return sum(line.calls for line in self.lines)


_TOTALS = """
    WITH counted AS (
        SELECT {bucket} AS at, {group} AS name, sum(calls) AS calls, sum(seconds) AS seconds
        FROM usage_totals WHERE period = {period} AND start >= :start AND start < :end AND {where} GROUP BY 1, 2
    ), best AS (
        SELECT name FROM counted WHERE name <> '*' GROUP BY name ORDER BY sum(calls) DESC, name LIMIT :groups
    )
    SELECT coalesce(best.name, '*') AS name, at, sum(calls)::bigint AS calls, sum(seconds) AS seconds
    FROM counted LEFT JOIN best USING (name) GROUP BY 1, 2 ORDER BY 2, 1
"""
"""Without callers."""
_OF_CALLER = """
    SELECT {group} AS name, {bucket} AS at, sum(calls)::bigint AS calls, sum(seconds) AS seconds
    FROM {table} WHERE caller = CAST(:caller AS uuid) AND {column} >= :start AND {column} < :end AND {where}
    GROUP BY 1, 2 ORDER BY 2, 1
"""
"""Of one caller."""
_BY_CALLER = """
    WITH best AS MATERIALIZED (
        SELECT caller FROM {table} WHERE {column} >= :start AND {column} < :end AND {where}
          AND caller <> '00000000-0000-0000-0000-000000000000'
        GROUP BY caller ORDER BY sum(calls) DESC, caller LIMIT :groups
    ), counted AS (
        SELECT caller::text AS name, {bucket} AS at, sum(calls) AS calls, sum(seconds) AS seconds
        FROM best JOIN {table} USING (caller) WHERE {column} >= :start AND {column} < :end AND {where} GROUP BY 1, 2
    ), total AS (
        SELECT {total_bucket} AS at, sum(calls) AS calls, sum(seconds) AS seconds
        FROM usage_totals WHERE period = {period} AND start >= :start AND start < :end AND {where} GROUP BY 1
    ), others AS (
        SELECT '*' AS name, at, total.calls - coalesce(sum(counted.calls), 0) AS calls,
               total.seconds - coalesce(sum(counted.seconds), 0) AS seconds
        FROM total LEFT JOIN counted USING (at) GROUP BY at, total.calls, total.seconds
    )
    SELECT name, at, calls::bigint AS calls, seconds FROM (
        SELECT * FROM counted UNION ALL SELECT * FROM others WHERE calls > 0
    ) AS found ORDER BY 2, 1
"""
"""By caller: the rows of the best ones, and the difference to the total."""
_GROUPS = {
    UsageGroup.OUTCOME: "outcome",
    UsageGroup.CODE: "code",
    UsageGroup.ROUTE: "route",
    UsageGroup.CALLER: "caller::text",
}
_FILTERS = {"route": "route = :route", "outcome": "outcome = :outcome"}
_LOST = text(
    """SELECT coalesce(sum(calls), 0)::bigint AS calls, coalesce(sum(requests), 0)::bigint AS requests
       FROM usage_losses WHERE hour >= date_trunc('hour', CAST(:start AS timestamptz), 'UTC') AND hour < :end"""
)


def counts(
    session: Session,
    start: datetime,
    end: datetime,
    interval: UsageInterval,
    group: UsageGroup,
    filters: Mapping[str, str] | None = None,
) -> Series:
    """The calls from `start`, rounded down to the interval, until `end`. `filters`: `caller`, `route`, `outcome`."""
    start = _rounded(start, interval)
    chosen = {name: value for name, value in (filters or {}).items() if value}
    caller = chosen.pop("caller", None)
    by_minute = interval is UsageInterval.MINUTE
    column = "minute" if by_minute else "hour"
    by_day = interval is UsageInterval.DAY
    form = _OF_CALLER if caller else _BY_CALLER if group is UsageGroup.CALLER else _TOTALS
    start_of = "date_trunc('day', {}, 'UTC')" if by_day else "{}"
    statement = form.format(
        group=_GROUPS[group],
        bucket=start_of.format("start" if form is _TOTALS else column),
        total_bucket=start_of.format("start"),
        period=60 if by_minute else 3600,
        table=f"usage_{column}s",
        column=column,
        where=" AND ".join(["true", *(_FILTERS[name] for name in sorted(chosen))]),
    )
    execute = session.connection().execute
    values: dict[str, Any] = {"start": start, "end": end, "groups": MAX_GROUPS, "caller": caller, **chosen}
    if form is _OF_CALLER:
        del values["groups"]
    else:
        del values["caller"]
    found: dict[str, list[Any]] = {}
    for name, at, calls, seconds in execute(text(statement), values):
        line = found.setdefault(name, [0, 0.0, []])
        line[0] += calls
        line[1] += seconds
        line[2].append(Point(at, calls))
    lines = [
        Line(name, calls, round(1000 * seconds / calls, 3), points) for name, (calls, seconds, points) in found.items()
    ]
    lines.sort(key=lambda line: (line.group == OTHERS, -line.calls, line.group))
    return Series(start, end, lines, lost(session, start, end))


def lost(session: Session, start: datetime, end: datetime) -> Loss:
    """What is missing from the hours of a period."""
    row = session.connection().execute(_LOST, {"start": start, "end": end}).one()
    return Loss(row.calls, row.requests)


def last_day_by_outcome(session: Session, now: datetime) -> Series:
    """The last 24 hours by hour and outcome, for an overview."""
    return counts(session, now - timedelta(hours=24), now, UsageInterval.HOUR, UsageGroup.OUTCOME)


def totals(series: Series) -> Mapping[CallOutcome, int]:
    """The calls by outcome, of a series by outcome."""
    return {CallOutcome(line.group): line.calls for line in series.lines if line.group != OTHERS}


def earliest(interval: UsageInterval, now: datetime, days: int) -> datetime:
    """From when on there are counts."""
    return now - (MINUTES_KEPT if interval is UsageInterval.MINUTE else timedelta(days=days))


def _rounded(at: datetime, interval: UsageInterval) -> datetime:
    at = at.astimezone(UTC).replace(second=0, microsecond=0)
    if interval is UsageInterval.MINUTE:
        return at
    return at.replace(minute=0) if interval is UsageInterval.HOUR else at.replace(hour=0, minute=0)
