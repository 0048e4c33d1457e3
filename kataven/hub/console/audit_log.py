"""The operator audit log: every operator action, in the console and on the command line, and its export."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import request
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as AnyResponse

from kataven.account.paging import Position
from kataven.hub import audit_export, date_range
from kataven.hub.audit_export import ExportFormat
from kataven.hub.audit_facts import facts_of
from kataven.hub.console.lists import AccountSearch
from kataven.hub.date_range import DateRange
from kataven.hub.formatting import actor_name
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, render
from kataven.system import operators
from kataven.system.operators import EventPage, EventPosition, EventSearch
from kataven.web import paging

blueprint = PageBlueprint("console-trail", __name__)

HOME = "/console/trail"
PAGE_SIZE = 50
EXPORTED = "audit_log.exported"
COLUMNS = ("at", "actor", "action", "account_id", "detail", "id")
FIELDS = ("account", "q", "actor", "action")
"""`account` matches one account exactly and is used in links. `q` matches a part of an account's name."""
POSITIONS = {"cursor": False, "newer": True}
"""Query parameters of a position, and whether the page ends before it."""


@blueprint.page(HOME, OPERATORS)
def show_operator_audit_log(hub_request: HubRequest) -> AnyResponse:
    terms, days = _terms(request.args), date_range.read(request.args)
    found = EventPage((), has_previous=False, has_next=False)
    with hub_request.services.directory.database.reading() as session:
        actors, actions = operators.facets(session)
        if _can_match(terms) and not days.problems:
            found = operators.page(session, _search(terms, days), PAGE_SIZE, _position())
    chosen = {**{name: term.submitted for name, term in terms.items()}, "from": days.first, "to": days.last}
    return render(
        "console/operator_audit_log.html",
        HTTPStatus.BAD_REQUEST if days.problems else HTTPStatus.OK,
        rows=[(event, facts_of(event.detail)) for event in found.rows],
        chosen=chosen,
        actors=_choices("All operators", actors, terms["actor"], actor_name),
        actions=_choices("All actions", actions, terms["action"]),
        links=_links(chosen, found),
        is_filtered=any(chosen.values()),
        problems=days.problems or {},
    )


@blueprint.form(f"{HOME}/export", OPERATORS)
def export_operator_audit_log(hub_request: HubRequest) -> AnyResponse:
    """All events that match the filters, as a download. The export is an event itself."""
    terms, days, kind = _terms(request.form), date_range.read(request.form), request.form.get("format", "")
    if kind not in set(ExportFormat) or days.problems or not _can_match(terms):
        raise BadRequest
    chosen = {**{name: term.text for name, term in terms.items()}, "from": days.first, "to": days.last}
    database, wanted = hub_request.services.directory.database, _search(terms, days)

    def record() -> None:
        with database.writing() as session:
            detail = {"format": kind, **{name: value for name, value in chosen.items() if value}}
            operators.record(session, hub_request.operator_label, EXPORTED, detail=detail)

    def parts() -> Iterator[Sequence[Mapping[str, Any]]]:
        for events in operators.every_event(database.reading, wanted, audit_export.PART):
            yield [{column: getattr(event, column) for column in COLUMNS} for event in events]

    return audit_export.respond(ExportFormat(kind), "kataven-operator-audit", COLUMNS, parts(), record)


def _terms(fields: Mapping[str, str]) -> dict[str, AccountSearch]:
    return {name: AccountSearch(fields.get(name, "")) for name in FIELDS}


def _can_match(terms: Mapping[str, AccountSearch]) -> bool:
    return all(term.can_match for term in terms.values())


def _search(terms: Mapping[str, AccountSearch], days: DateRange) -> EventSearch:
    return EventSearch(
        terms["account"].text,
        terms["q"].text,
        terms["action"].text,
        terms["actor"].text,
        days.since,
        days.until,
    )


def _choices(
    all_label: str, known: Sequence[str], chosen: AccountSearch, label: Callable[[str], str] = str
) -> list[tuple[str, str]]:
    """The known values, and the selected one even if it is not known."""
    values = sorted({*known, *([chosen.submitted] if chosen.submitted else [])})
    return [("", all_label), *((value, label(value)) for value in values)]


def _position() -> EventPosition | None:
    """The position of the requested page. None, the first page, if it is missing or malformed."""
    for name, backwards in POSITIONS.items():
        text = request.args.get(name, "")
        if re.fullmatch(paging.CURSOR_PATTERN, text):
            found = paging.decode(text)
            return EventPosition(found.created_at, found.id, backwards)
    return None


def _links(chosen: Mapping[str, str], page: EventPage) -> dict[str, str]:
    query = {name: value for name, value in chosen.items() if value}
    links = {}
    if page.has_previous and page.rows:
        links["previous"] = {"newer": paging.encode(Position(page.rows[0].at, page.rows[0].id))}
    if page.has_next:
        links["next"] = {"cursor": paging.encode(Position(page.rows[-1].at, page.rows[-1].id))}
    return {relation: f"{HOME}?{urlencode({**query, **position})}" for relation, position in links.items()}
