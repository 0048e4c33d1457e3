"""The list of requests, newest first, with filters. The newest page refreshes itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import Response, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.account.models import LoggedRequest
from kataven.account.paging import Page
from kataven.hub.charts import LABELS
from kataven.hub.page_blueprint import MEMBERS, HubRequest, render, see_other
from kataven.hub.pages.requests import filters
from kataven.hub.pages.requests.blueprint import HOME, blueprint
from kataven.hub.pages.requests.filters import RequestFilters
from kataven.hub.pages.requests.rows import RequestRow, row_of
from kataven.tenancy.errors import SchemaMismatch
from kataven.usage import callers, requests, series
from kataven.usage.outcomes import CallOutcome
from kataven.usage.requests import RequestSearch
from kataven.usage.series import Loss
from kataven.web.schema import read_id

PAGE_SIZE = 50
MAX_CALLERS = 50
"""How many callers the field of the caller suggests."""
ROWS = "rows"
"""The part of the page that it requests again."""


@dataclass(frozen=True, slots=True)
class RequestsPage:
    """The rows, and where the list continues."""

    rows: Sequence[RequestRow]
    filters: RequestFilters
    account: str
    pinned: RequestFilters
    """The same rows, which new requests don't change: the links of a list that changes lead back to it."""
    previous_path: str | None
    next_path: str | None

    @property
    def is_live(self) -> bool:
        return self.filters.position is None

    @property
    def refresh_path(self) -> str:
        """The rows again, if there are others than these. `account`: the session may be in another account by then."""
        first = {"newest": str(self.rows[0].id)} if self.rows else {}
        return f"{HOME}?{urlencode({**self.filters.submitted, 'part': ROWS, 'account': self.account, **first})}"


@blueprint.page(HOME, MEMBERS)
def show_requests(hub_request: HubRequest) -> AnyResponse:
    if request.args.get("find", "").strip():
        return see_other(filters.by_request_id(request.args["find"].strip()[: filters.MAX_LENGTH]))
    chosen = filters.requested(with_addresses=hub_request.may_manage)
    problems = chosen.problems()
    try:
        with hub_request.reading() as session:
            if request.args.get("part") == ROWS:
                return _rows(hub_request, session, chosen, is_valid=not problems)
            page = _page(hub_request, session, chosen) if not problems else _empty(hub_request, chosen)
            known = _known(hub_request, session, chosen)
    except SchemaMismatch:
        return render("requests/not_recorded.html")
    return render(
        "requests/list.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        page=page,
        filters=chosen,
        problems=problems,
        outcomes=[("", "All"), *((outcome.value, LABELS[outcome]) for outcome in CallOutcome)],
        policy=hub_request.services.usage_policy,
        is_recorded=hub_request.services.usage is not None,
        **known,
    )


def _rows(hub_request: HubRequest, session: Session, chosen: RequestFilters, *, is_valid: bool) -> Response:
    """The rows alone. 204 if they are the ones that the page has, so that it changes nothing.

    The user may have switched to another account in another tab. Then the page is reloaded: it must not show the rows
    of that account under the name of its own.
    """
    account = hub_request.account.account
    if request.args.get("account", account) != account:
        return Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Refresh": "true"})
    page = _page(hub_request, session, chosen) if is_valid else _empty(hub_request, chosen)
    newest = str(page.rows[0].id) if page.rows else ""
    if newest == request.args.get("newest", ""):
        return Response(status=HTTPStatus.NO_CONTENT)
    return render("requests/rows.html", page=page, filters=chosen)


def _page(hub_request: HubRequest, session: Session, chosen: RequestFilters) -> RequestsPage:
    wanted = RequestSearch(
        outcome=chosen.outcome,
        code=chosen.get("code") or None,
        route=chosen.get("route") or None,
        address=chosen.address,
        since=chosen.time("since"),
        until=chosen.time("until"),
        callers=_callers(hub_request, session, chosen.get("caller")),
    )
    hours = hub_request.services.usage_policy.log_hours
    found: Page[LoggedRequest] = requests.listing(session, PAGE_SIZE, chosen.position, wanted, hours)
    names = callers.named(session, {logged.caller for logged in found.rows})
    rows = [row_of(logged, names, with_addresses=hub_request.may_manage) for logged in found.rows]
    live = chosen.at(None)
    return RequestsPage(
        rows,
        # A page before the newest rows is the first page: `listing` fills it up.
        chosen if found.previous else live,
        hub_request.account.account,
        chosen if found.previous or not rows else chosen.starting_with(rows[0].at),
        chosen.at(found.previous).path if found.previous else None,
        chosen.at(found.next).path if found.next else None,
    )


def _empty(hub_request: HubRequest, chosen: RequestFilters) -> RequestsPage:
    return RequestsPage((), chosen, hub_request.account.account, chosen, None, None)


def _callers(hub_request: HubRequest, session: Session, given: str) -> Collection[UUID] | None:
    """The callers that the filter selects: by id, by name, or by the end of a key. None: all."""
    if not given:
        return None
    caller = read_id(given.lower())
    if caller is None:
        return [found.id for found in callers.matching(session, given, keys_only=not hub_request.may_manage)]
    if hub_request.may_manage:
        return [caller]
    return [found.id for found in callers.named(session, [caller]).values() if found.is_key]


def _known(hub_request: HubRequest, session: Session, chosen: RequestFilters) -> dict[str, Any]:
    """What the fields offer, and what is missing from the log."""
    hours, now = hub_request.services.usage_policy.log_hours, datetime.now(UTC)
    found = requests.choices(session, hours)
    loss: Loss = series.lost(session, now - timedelta(hours=hours), now)
    recent = callers.recent(session, MAX_CALLERS)
    caller = read_id(chosen.get("caller").lower())
    named = None if caller is None else callers.named(session, [caller]).get(caller)
    return {
        "routes": _options(found.routes, chosen.get("route")),
        "codes": _options(found.codes, chosen.get("code")),
        "loss": loss,
        "suggested": [one.name for one in recent if one.is_key or hub_request.may_manage],
        "caller": named if named is not None and (named.is_key or hub_request.may_manage) else None,
    }


def _options(known: Sequence[str], chosen: str) -> Sequence[tuple[str, str]]:
    """The choices of a field. The chosen value can have no calls."""
    return [("", "All"), *((value, value) for value in sorted({*known, chosen} - {""}))]
