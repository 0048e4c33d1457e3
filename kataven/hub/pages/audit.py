"""The audit log of an account, with filters, and its export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID

from flask import request
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import audit, audit_search
from kataven.account.audit_search import AuditSearch, ResolvedSearch
from kataven.account.models import AuditEvent
from kataven.account.paging import Page
from kataven.hub import audit_export, date_range
from kataven.hub.audit_export import ExportFormat
from kataven.hub.audit_facts import AuditFact, facts_of
from kataven.hub.page_blueprint import MANAGERS, HubRequest, PageBlueprint, render
from kataven.hub.paging import page_links, requested_position
from kataven.web.schema import read_id

blueprint = PageBlueprint("audit", __name__)

HOME = "/audit-log"
PAGE_SIZE = 50
MAX_FILTER_LENGTH = 200
FIELDS = ("action", "actor", "target")
EXPORTED = "audit_log.exported"
COLUMNS = ("created_at", "actor", "actor_name", "action", "target", "detail", "address", "request_id", "id")
PAGES_OF_KINDS = {"api_key": "/settings/api-keys", "widget_key": "/settings/widget-keys", "agent": "/agents"}


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An event on the page."""

    event: AuditEvent
    target_name: str | None
    target_path: str | None
    """The page of the target, if it still exists."""
    facts: Sequence[AuditFact]
    receipt_path: str | None


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """The filters of a request."""

    submitted: Mapping[str, str]
    """As entered, with `from` and `to`."""
    search: AuditSearch
    can_match: bool
    """PostgreSQL stores no NUL, and no value is longer than the limit."""
    problems: Mapping[str, str]

    @property
    def is_empty(self) -> bool:
        return not any(self.submitted.values())


def _read_filters(fields: Mapping[str, str]) -> AuditFilters:
    submitted = {name: fields.get(name, "") for name in FIELDS}
    texts = {name: text.strip() for name, text in submitted.items()}
    days = date_range.read(fields)
    return AuditFilters(
        {**submitted, "from": days.first, "to": days.last},
        AuditSearch(**texts, since=days.since, until=days.until),
        all(len(text) <= MAX_FILTER_LENGTH and "\x00" not in text for text in texts.values()),
        days.problems or {},
    )


@blueprint.page(HOME, MANAGERS)
def show_audit_log(hub_request: HubRequest) -> AnyResponse:
    filters = _read_filters(request.args)
    indexed = audit_search.has_indexes(hub_request.account.tenant)
    with hub_request.reading() as session:
        known = audit_search.facets(session, indexed=indexed)
        page: Page[AuditEvent] = Page((), None)
        wanted = ResolvedSearch(())
        if filters.can_match and not filters.problems:
            wanted = audit_search.resolve(session, filters.search, known)
            page = audit_search.search(session, PAGE_SIZE, requested_position(), wanted)
        names = audit_search.names_of(session, [row for event in page.rows if (row := read_id(event.target or ""))])
    submitted = filters.submitted
    return render(
        "audit.html",
        HTTPStatus.BAD_REQUEST if filters.problems else HTTPStatus.OK,
        rows=[_row(event, names) for event in page.rows],
        links=page_links(page),
        actions=_choices("All actions", {action: action for action in known.actions}, submitted["action"]),
        actors=_choices(
            "All actors",
            {label: f"{name} ({label})" for label, name in known.actors.items()},
            submitted["actor"],
        ),
        chosen=submitted,
        is_filtered=not filters.is_empty,
        too_many_names=wanted.too_many_names,
        problems=filters.problems,
    )


@blueprint.form(f"{HOME}/export", MANAGERS)
def export_audit_log(hub_request: HubRequest) -> AnyResponse:
    """All events that match the filters, as a download. The export is an event itself."""
    filters, kind = _read_filters(request.form), request.form.get("format", "")
    if kind not in set(ExportFormat) or filters.problems or not filters.can_match:
        raise BadRequest
    chosen = {name: value for name, value in filters.submitted.items() if value}

    def record() -> None:
        with hub_request.writing() as session:
            audit.record(session, hub_request.actor, EXPORTED, detail={"format": kind, **chosen})

    name, events = f"kataven-audit-{hub_request.account.account}", _events(hub_request, filters)
    return audit_export.respond(ExportFormat(kind), name, COLUMNS, events, record)


def _events(hub_request: HubRequest, filters: AuditFilters) -> Iterator[Sequence[Mapping[str, Any]]]:
    registry, tenant = hub_request.services.registry, hub_request.account.tenant
    indexed = audit_search.has_indexes(tenant)
    parts = audit_search.every_event(
        lambda: registry.reading(tenant), filters.search, audit_export.PART, indexed=indexed
    )
    for events in parts:
        yield [{column: getattr(event, column) for column in COLUMNS} for event in events]


def _row(event: AuditEvent, names: Mapping[UUID, tuple[str, str]]) -> AuditRow:
    target_id = read_id(event.target or "")
    kind, current = names.get(target_id, (None, None)) if target_id else (None, None)
    recorded = event.detail.get("name")
    return AuditRow(
        event,
        current or (recorded if isinstance(recorded, str) else None),
        f"{PAGES_OF_KINDS[kind]}/{target_id}" if kind else None,
        # A name that was changed since is a fact of the event.
        facts_of(event.detail, frozenset({"name"}) if current is None or current == recorded else frozenset()),
        f"/receipts/{event.id}" if event.detail.get("receipt") else None,
    )


def _choices(all_label: str, known: Mapping[str, str], chosen: str) -> Sequence[tuple[str, str]]:
    """The known values, and the selected one: it may be a prefix, or older than the known values."""
    choices = {**known, **({chosen: chosen} if chosen and chosen not in known else {})}
    return [("", all_label), *sorted(choices.items(), key=lambda choice: choice[1].lower())]
