"""The log of an account's latest requests, and which step of the request pipeline decided each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from kataven.account.errors import NotFound
from kataven.account.models import LoggedRequest, UsageTotal
from kataven.account.paging import Page, Position, newest_first
from kataven.usage.outcomes import CallOutcome, RequestStep
from kataven.usage.pending import ANY_ROUTE


@dataclass(frozen=True, slots=True)
class RequestSearch:
    """Filters of the log. None matches everything."""

    caller: UUID | None = None
    outcome: CallOutcome | None = None
    code: str | None = None
    status: int | None = None
    route: str | None = None
    address: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    callers: Collection[UUID] | None = None
    """Any of these callers."""


class StepResult(StrEnum):
    PASSED = "passed"
    DECIDED = "decided"
    NOT_REACHED = "not_reached"


@dataclass(frozen=True, slots=True)
class ExplainedStep:
    """A step of the pipeline, and whether it decided the request."""

    step: RequestStep
    result: StepResult


def listing(
    session: Session, limit: int, start: Position | None, wanted: RequestSearch, log_hours: int
) -> Page[LoggedRequest]:
    """A page of the log, newest first. Requests that are older than `log_hours` are never returned."""
    where: list[ColumnElement[bool]] = [LoggedRequest.created_at >= func.now() - timedelta(hours=log_hours)]
    equal = {
        "caller": wanted.caller,
        "outcome": wanted.outcome,
        "code": wanted.code,
        "status": wanted.status,
        "route": wanted.route,
        "address": wanted.address,
    }
    where += [getattr(LoggedRequest, name) == value for name, value in equal.items() if value is not None]
    if wanted.callers is not None:
        where.append(LoggedRequest.caller.in_(wanted.callers))
    if wanted.since is not None:
        where.append(LoggedRequest.created_at >= wanted.since)
    if wanted.until is not None:
        where.append(LoggedRequest.created_at < wanted.until)
    return newest_first(session, LoggedRequest, limit, start, *where)


@dataclass(frozen=True, slots=True)
class LogChoices:
    """The routes and problem codes of the calls that can be in the log, for lists of choices."""

    routes: Sequence[str]
    codes: Sequence[str]


def choices(session: Session, log_hours: int) -> LogChoices:
    """From the counts by hour: a fraction of the rows of the log."""
    since = func.date_trunc("hour", func.now() - timedelta(hours=log_hours), "UTC")
    rows = session.execute(
        select(UsageTotal.route, UsageTotal.code).where(UsageTotal.period == 3600, UsageTotal.start >= since).distinct()
    ).all()
    routes = {route for route, _ in rows if route != ANY_ROUTE}
    return LogChoices(sorted(routes), sorted({code for _, code in rows if code}))


def find(session: Session, request_id: str, log_hours: int) -> LoggedRequest:
    """The latest request with this `X-Request-ID`, which clients may choose and repeat. Raises NotFound."""
    found = session.scalars(
        select(LoggedRequest)
        .where(
            LoggedRequest.request_id == request_id,
            LoggedRequest.created_at >= func.now() - timedelta(hours=log_hours),
        )
        .order_by(LoggedRequest.created_at.desc(), LoggedRequest.id.desc())
        .limit(1)
    ).first()
    if found is None:
        raise NotFound("request in the log")
    return found


def find_row(session: Session, row_id: UUID, log_hours: int) -> LoggedRequest | None:
    """The request with this id of the log, which is unique, in contrast to the `X-Request-ID`."""
    found = session.get(LoggedRequest, row_id)
    if found is None or found.created_at < datetime.now(UTC) - timedelta(hours=log_hours):
        return None
    return found


def explain(step: RequestStep) -> Sequence[ExplainedStep]:
    """The eight steps of a request that `step` decided."""
    return [
        ExplainedStep(
            one, StepResult.PASSED if one < step else StepResult.DECIDED if one == step else StepResult.NOT_REACHED
        )
        for one in RequestStep
    ]
