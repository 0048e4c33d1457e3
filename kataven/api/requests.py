"""`/v1/requests`: the log of the account's latest requests, and which step of the pipeline decided each."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Response
from pydantic import Field

from kataven.account.errors import NotFound
from kataven.account.models import LoggedRequest
from kataven.api.usage import OutcomeName, Route
from kataven.usage import requests
from kataven.usage.outcomes import CallOutcome, RequestStep
from kataven.usage.pending import NOBODY
from kataven.usage.requests import RequestSearch, StepResult
from kataven.validation import Shaped
from kataven.web.access import WRITE
from kataven.web.explanations import EXPLANATIONS
from kataven.web.inputs.times import Time
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.paging import FilteredPageQuery, write_page
from kataven.web.problems import PROBLEM_TYPES
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json

blueprint = ApiBlueprint("requests", __name__, "request", "The log of the account's latest requests.")

STEP_NAMES = {step: step.name.lower() for step in RequestStep}
StepName = Literal["edge", "credential", "principal", "account", "access", "limits", "handler", "response"]
Code = Annotated[str, Shaped("^[a-z_]{1,64}$", "must be a problem code like rate_limited")]
Address = Annotated[str, Shaped(r"^[0-9A-Fa-f.:%a-z]{2,64}$", "must be an IP address, like 203.0.113.7")]


class RequestQuery(FilteredPageQuery):
    """Filters of the log. A request must match all of them."""

    caller: UUID | None = Field(default=None, description="Only requests of this API key or user, by its ID.")
    outcome: OutcomeName | None = Field(default=None, description="Only requests with this outcome.")
    code: Code | None = Field(default=None, description="Only requests with this problem code, such as `rate_limited`.")
    status: Annotated[int, Field(ge=100, le=599)] | None = Field(
        default=None, description="Only requests with this status."
    )
    route: Route | None = Field(default=None, description="Only requests of this route, such as `GET /v1/agents`.")
    address: Address | None = Field(default=None, description="Only requests from this address.")
    since: Time | None = Field(default=None, description="Only requests from this time on.")
    until: Time | None = Field(default=None, description="Only requests before this time.")


class LoggedLimitView(View):
    """A limit, and what was left of it after the request."""

    limit: str
    quota: int
    left: int
    resets_in: int = Field(description="Seconds until more is left, or until the request would be admitted.")


class LoggedRequestView(View):
    """A request. It has no query string, no body and no credential."""

    id: UUID
    request_id: str = Field(description="The `X-Request-ID` of the response.")
    created_at: datetime = Field(description="When it ended.")
    caller_id: UUID | None = Field(description="The ID of the API key or user.")
    caller_kind: Literal["api_key", "user"]
    caller_name: str | None = Field(
        description="The name of the API key or user at the time. Null if the credential was refused."
    )
    route: str = Field(description="The method and the template of the path.")
    status: int
    outcome: CallOutcome
    code: str | None = Field(description="The problem code.")
    step: StepName = Field(description="The step of the request pipeline that decided.")
    milliseconds: float
    address: str
    user_agent: str = Field(description="The family of the user agent, such as `curl`.")
    limits: list[LoggedLimitView] = Field(description="Empty if the request was refused before the limits.")


class PipelineStepView(View):
    """A step of the request pipeline, and whether it decided the request."""

    number: int
    name: StepName
    result: StepResult


class ExplainedRequestView(LoggedRequestView):
    """A request, with the step that decided it, and what to do."""

    steps: list[PipelineStepView]
    title: str | None = Field(description="What the problem code means, in short.")
    explanation: str | None = Field(description="What the problem code means, and what to do.")


@blueprint.operation(
    "GET",
    "/v1/requests",
    access=WRITE,
    summary="List requests",
    response=ResponseSpec(200, "A page of requests, newest first.", list[LoggedRequestView]),
    query=RequestQuery,
)
def list_requests(context: RequestContext, query: RequestQuery) -> Response:
    """The account's requests of the last 24 hours: refused and failed ones, and a sample of the successful ones.
    `/v1/usage` counts all. A request appears within about 20 seconds. JWTs need the role owner or admin."""
    outcome = None if query.outcome is None else CallOutcome(query.outcome)
    wanted = RequestSearch(
        query.caller, outcome, query.code, query.status, query.route, query.address, query.since, query.until
    )
    with context.reading() as session:
        page = requests.listing(session, query.limit, query.after, wanted, context.services.usage_policy.log_hours)
        return write_page(page, shape, query)


@blueprint.operation(
    "GET",
    "/v1/requests/<string:request>",
    access=WRITE,
    summary="Explain a request",
    response=ResponseSpec(200, "The request, its steps, and what to do.", ExplainedRequestView),
)
def read_request(context: RequestContext, request: str) -> Response:
    """States which of the eight steps of the request pipeline decided a request, and what to do. If several requests
    had this `X-Request-ID`, returns the latest one."""
    if "\x00" in request:
        raise NotFound("request in the log")
    with context.reading() as session:
        found = requests.find(session, request, context.services.usage_policy.log_hours)
        shaped = shape(found)
    kind = PROBLEM_TYPES.get(found.code)
    steps = requests.explain(RequestStep(found.step))
    return write_json(
        {
            **shaped,
            "steps": [{"number": int(one.step), "name": STEP_NAMES[one.step], "result": one.result} for one in steps],
            "title": None if kind is None else kind.title,
            "explanation": EXPLANATIONS.get(found.code),
        }
    )


def shape(found: LoggedRequest) -> dict[str, Any]:
    """A request as the API returns it."""
    return {
        "id": found.id,
        "request_id": found.request_id,
        "created_at": found.created_at,
        "caller_id": None if str(found.caller) == NOBODY else found.caller,
        "caller_kind": found.kind,
        "caller_name": found.name or None,
        "route": found.route,
        "status": found.status,
        "outcome": found.outcome,
        "code": found.code or None,
        "step": STEP_NAMES[RequestStep(found.step)],
        "milliseconds": round(found.milliseconds, 3),
        "address": found.address,
        "user_agent": found.agent,
        "limits": found.limits,
    }
