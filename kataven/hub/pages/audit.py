"""Audit log: who did what, when, from where."""

from __future__ import annotations

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import audit
from kataven.hub.page import MANAGERS, Desk, Visit, show
from kataven.hub.paging import asked_position, next_link

desk = Desk("audit", __name__)

PAGE_SIZE = 50
LONGEST_FILTER = 200
ACTIONS = (
    "agent.created",
    "agent.changed",
    "agent.deleted",
    "api_key.created",
    "api_key.renamed",
    "api_key.revoked",
    "api_key.removed",
    "api_keys.expiry_shortened",
    "person.signed_in",
    "person.signed_out",
)
"""What the filter suggests; it takes any."""


@desk.shows("/audit-log", MANAGERS)
def show_audit_log(visit: Visit) -> AnyResponse:
    action, actor = _filter("action"), _filter("actor")
    with visit.reading() as session:
        page = audit.listing(session, PAGE_SIZE, asked_position(), action, actor)
    return show(
        "audit.html",
        events=page.rows,
        more=next_link(page.next),
        actions=ACTIONS,
        chosen={"action": action, "actor": actor},
    )


def _filter(name: str) -> str | None:
    text = request.args.get(name, "")
    return text if 0 < len(text) <= LONGEST_FILTER and "\x00" not in text else None
