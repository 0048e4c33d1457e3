"""The page of one request: which step of the pipeline decided it, why, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.account.errors import NotFound
from kataven.account.models import LoggedRequest
from kataven.hub.formatting import RECEIPTS
from kataven.hub.page_blueprint import MEMBERS, HubRequest, render
from kataven.hub.pages.requests import filters
from kataven.hub.pages.requests.blueprint import HOME, blueprint
from kataven.hub.pages.requests.rows import RequestRow, row_of
from kataven.ratelimit.policy import LIMIT_FIELDS
from kataven.tenancy.errors import SchemaMismatch
from kataven.usage import callers, receipts, requests
from kataven.usage.outcomes import CallOutcome, RequestStep
from kataven.usage.requests import ExplainedStep, StepResult
from kataven.web.explanations import EXPLANATIONS
from kataven.web.problems import PROBLEM_TYPES
from kataven.web.schema import read_id

_OF_KEY: Final = "key-"
_LABELS: Final = {limit.quota: limit for limit in LIMIT_FIELDS}
_AROUND = timedelta(minutes=1)

STEPS: Final[Mapping[RequestStep, tuple[str, str]]] = {
    RequestStep.EDGE: ("Edge", "The path is valid, and the client address is known."),
    RequestStep.CREDENTIAL: ("Credential", "The request has exactly one credential, and it is well-formed."),
    RequestStep.PRINCIPAL: (
        "Principal",
        "The credential is accepted: not revoked, paused, expired, rotated or blocked.",
    ),
    RequestStep.ACCOUNT: ("Account", "The account exists, and is not suspended."),
    RequestStep.ACCESS: ("Access", "The role and the scopes allow the operation."),
    RequestStep.LIMITS: ("Limits", "The account and the key have requests left."),
    RequestStep.HANDLER: ("Handler", "The input is valid, and the operation was performed."),
    RequestStep.RESPONSE: ("Response", "The response was sent."),
}
"""The name of each step, and what it means that a request passed it."""


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit, with what was left of it after the request."""

    label: str
    field: str
    """The field of the form that changes it: `per_minute`."""
    of_key: bool
    quota: int
    left: int
    resets_in: int
    free_at: datetime
    """When the request would have been admitted."""
    is_window: bool

    @property
    def words(self) -> str:
        """`300 requests per minute`, `20 concurrent requests`."""
        label = self.label[:1].lower() + self.label[1:]
        return f"{self.quota:,} {label}"


@blueprint.page(f"{HOME}/<given>", MEMBERS)
def show_request(hub_request: HubRequest, given: str) -> AnyResponse:
    """`given`: the id of a row of the log, or an `X-Request-ID`."""
    chosen = filters.requested(with_addresses=hub_request.may_manage)
    try:
        with hub_request.reading() as session:
            logged = _find(session, given.strip(), hub_request.services.usage_policy.log_hours)
            names = callers.named(session, [] if logged is None else [logged.caller])
            row = None if logged is None else row_of(logged, names, with_addresses=hub_request.may_manage)
            limits = [] if logged is None else _limits(logged)
            step = RequestStep.EDGE if logged is None else RequestStep(logged.step)
            ended = None
            if logged is not None and logged.outcome == CallOutcome.REFUSED and hub_request.may_manage:
                ended = receipts.ending(session, logged.caller, logged.code)
    except SchemaMismatch:
        return render("requests/not_recorded.html")
    if row is None:
        policy = hub_request.services.usage_policy
        return render("requests/not_found.html", HTTPStatus.NOT_FOUND, given=given, policy=policy, filters=chosen)
    return render(
        "requests/request.html",
        row=row,
        filters=chosen,
        limits=limits,
        exceeded=_exceeded(limits) if row.outcome == "limited" else None,
        steps=_steps(row, requests.explain(step)),
        problem=PROBLEM_TYPES.get(row.code),
        explanation=EXPLANATIONS.get(row.code),
        decided=STEPS[step][0],
        around=_around(row),
        ended=ended,
        ended_path=None if ended is None else f"{RECEIPTS}{ended.id}",
    )


def _find(session: Session, given: str, log_hours: int) -> LoggedRequest | None:
    row_id = read_id(given.lower())
    found = None if row_id is None else requests.find_row(session, row_id, log_hours)
    if found is not None or not given or "\0" in given:
        return found
    try:
        return requests.find(session, given, log_hours)
    except NotFound:
        return None


def _limits(logged: LoggedRequest) -> Sequence[LimitRow]:
    return [_limit(logged.created_at, stored) for stored in logged.limits if isinstance(stored.get("limit"), str)]


def _limit(at: datetime, stored: Mapping[str, Any]) -> LimitRow:
    name = stored["limit"]
    of_key = name.startswith(_OF_KEY)
    field = _LABELS.get(name.removeprefix(_OF_KEY))
    return LimitRow(
        label=name if field is None else field.label,
        field="" if field is None else field.field,
        of_key=of_key,
        quota=stored["quota"],
        left=stored["left"],
        resets_in=stored["resets_in"],
        free_at=at + timedelta(seconds=stored["resets_in"]),
        is_window=field is None or field.seconds > 0,
    )


def _exceeded(limits: Sequence[LimitRow]) -> LimitRow | None:
    """The limit that refused the request: the one with the longest wait, of those that have least left."""
    return min(limits, key=lambda limit: (limit.left, -limit.resets_in), default=None)


def _steps(row: RequestRow, explained: Sequence[ExplainedStep]) -> Sequence[tuple[int, str, str, str]]:
    """Number, name, result and description of each step."""
    found = []
    for one in explained:
        name, passed = STEPS[one.step]
        words = passed
        if one.result is StepResult.NOT_REACHED:
            words = ""
        elif one.result is StepResult.DECIDED and row.code:
            kind = PROBLEM_TYPES.get(row.code)
            words = f"{row.status}: {row.code if kind is None else kind.title}."
        elif one.result is StepResult.DECIDED:
            words = f"{row.status}: the response was sent after {row.milliseconds:.1f} ms."
        found.append((int(one.step), name, one.result.value, words))
    return found


def _around(row: RequestRow) -> str | None:
    """The requests of the same caller at about the same time."""
    return None if row.caller is None else filters.of_caller(row.caller, row.at - _AROUND, row.at + 2 * _AROUND)
