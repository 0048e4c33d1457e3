"""The operators' trail: everything that was done to accounts from outside them."""

from __future__ import annotations

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.page import OPERATORS, Desk, Visit, show
from kataven.identity.token import is_account_name
from kataven.system import operators

desk = Desk("console-trail", __name__)

PAGE_SIZE = 50
MOST_PAGES = 1_000


@desk.shows("/console/trail", OPERATORS)
def show_trail(visit: Visit) -> AnyResponse:
    asked = request.args.get("account", "").strip()
    account = asked if is_account_name(asked) else ""
    page = _page_number(request.args.get("page", ""))
    with visit.services.directory.database.reading() as session:
        events = operators.listing(session, PAGE_SIZE + 1, page * PAGE_SIZE, account or None)
    return show(
        "console/trail.html", events=events[:PAGE_SIZE], account=account, page=page, more=len(events) > PAGE_SIZE
    )


def _page_number(text: str) -> int:
    return min(int(text), MOST_PAGES) if text.isascii() and text.isdigit() and len(text) <= 6 else 0
