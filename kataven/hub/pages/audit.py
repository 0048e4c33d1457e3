"""Audit log: who did what, when, from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import audit
from kataven.account.models import AuditEvent
from kataven.account.paging import Page
from kataven.hub.page_blueprint import MANAGERS, HubRequest, PageBlueprint, render
from kataven.hub.paging import links, requested_position

blueprint = PageBlueprint("audit", __name__)

PAGE_SIZE = 50
MAX_FILTER_LENGTH = 200
FIELDS = ("action", "actor", "target")


@blueprint.page("/audit-log", MANAGERS)
def show_audit_log(hub_request: HubRequest) -> AnyResponse:
    submitted = {name: request.args.get(name, "") for name in FIELDS}
    wanted = {name: text.strip() for name, text in submitted.items()}
    can_match = all(len(text) <= MAX_FILTER_LENGTH and "\x00" not in text for text in wanted.values())
    with hub_request.reading() as session:
        known = audit.facets(session)
        page: Page[AuditEvent] = Page((), None)
        if can_match:
            page = audit.search(session, PAGE_SIZE, requested_position(), audit.AuditSearch(**wanted), known)
    return render(
        "audit.html",
        events=page.rows,
        links=links(page),
        actions=_choices("Anything", {action: action for action in known.actions}, submitted["action"]),
        actors=_choices(
            "Anybody", {label: f"{name} ({label})" for label, name in known.actors.items()}, submitted["actor"]
        ),
        chosen=submitted,
    )


def _choices(any_: str, known: Mapping[str, str], chosen: str) -> Sequence[tuple[str, str]]:
    """What exists, and what was asked for, also if that is a beginning or of another time."""
    choices = {**known, **({chosen: chosen} if chosen and chosen not in known else {})}
    return [("", any_), *sorted(choices.items(), key=lambda choice: choice[1].lower())]
