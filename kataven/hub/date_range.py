"""A range of days in the query of a page: `from` and `to`, both inclusive, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta


@dataclass(frozen=True, slots=True)
class DateRange:
    """The days as they were entered, and what is wrong with them."""

    first: str
    last: str
    since: datetime | None = None
    until: datetime | None = None
    """The start of the day after the last one."""
    problems: Mapping[str, str] | None = None
    """By field: `from`, `to`."""


def read(fields: Mapping[str, str]) -> DateRange:
    """The range in `fields`. An invalid date is ignored and reported."""
    first, last = fields.get("from", "").strip()[:20], fields.get("to", "").strip()[:20]
    problems: dict[str, str] = {}
    since, until = _day("from", first, problems), _day("to", last, problems)
    if until is not None:
        until = None if until.year >= date.max.year else until + timedelta(days=1)
    if since is not None and until is not None and since >= until:
        problems["to"] = "The last day must not be before the first day"
    return DateRange(first, last, since, until, problems)


def _day(field: str, text: str, problems: dict[str, str]) -> datetime | None:
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        problems[field] = "Enter a date such as 2026-07-25"
        return None
    return datetime(found.year, found.month, found.day, tzinfo=UTC)
