"""The audit log of an account, with filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import audit
from kataven.account.models import AuditEvent
from kataven.account.paging import Page
from kataven.hub.page_blueprint import MANAGERS, HubRequest, PageBlueprint, render
from kataven.hub.paging import page_links, requested_position

blueprint = PageBlueprint("audit", __name__)

PAGE_SIZE = 50
MAX_FILTER_LENGTH = 200
FIELDS = ("action", "actor", "target")


@blueprint.page("/audit-log", MANAGERS)
def show_audit_log(hub_request: HubRequest) -> AnyResponse:
    submitted = {name: request.args.get(name, "") for name in FIELDS}
    filters = {name: text.strip() for name, text in submitted.items()}
    can_match = all(len(text) <= MAX_FILTER_LENGTH and "\x00" not in text for text in filters.values())
    with hub_request.reading() as session:
        known = audit.facets(session)
        page: Page[AuditEvent] = Page((), None)
        if can_match:
            page = audit.search(session, PAGE_SIZE, requested_position(), audit.AuditSearch(**filters), known)
    return render(
        "audit.html",
        events=page.rows,
        links=page_links(page),
        actions=_choices("All actions", {action: action for action in known.actions}, submitted["action"]),
        actors=_choices(
            "All actors",
            {label: f"{name} ({label})" for label, name in known.actors.items()},
            submitted["actor"],
        ),
        chosen=submitted,
    )


def _choices(all_label: str, known: Mapping[str, str], chosen: str) -> Sequence[tuple[str, str]]:
    """The known values, and the selected one: it may be a prefix, or older than the known values."""
    choices = {**known, **({chosen: chosen} if chosen and chosen not in known else {})}
    return [("", all_label), *sorted(choices.items(), key=lambda choice: choice[1].lower())]
