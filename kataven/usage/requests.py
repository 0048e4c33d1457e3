"""The log of an account's latest requests, and which step of the request pipeline decided each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from kataven.account.errors import NotFound
from kataven.account.models import LoggedRequest
from kataven.account.paging import Page, Position, newest_first
from kataven.usage.outcomes import CallOutcome, RequestStep


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
    if wanted.since is not None:
        where.append(LoggedRequest.created_at >= wanted.since)
    if wanted.until is not None:
        where.append(LoggedRequest.created_at < wanted.until)
    return newest_first(session, LoggedRequest, limit, start, *where)


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


def explain(step: RequestStep) -> Sequence[ExplainedStep]:
    """The eight steps of a request that `step` decided."""
    return [
        ExplainedStep(
            one, StepResult.PASSED if one < step else StepResult.DECIDED if one == step else StepResult.NOT_REACHED
        )
        for one in RequestStep
    ]
