"""The operator audit log: every operator action, in the console and on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.console.lists import AccountSearch, searched
from kataven.hub.formatting import actor_name
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, render
from kataven.system import operators
from kataven.system.models import OperatorEvent

blueprint = PageBlueprint("console-trail", __name__)

PAGE_SIZE = 50
MAX_PAGE = 1_000


@blueprint.page("/console/trail", OPERATORS)
def show_operator_audit_log(hub_request: HubRequest) -> AnyResponse:
    """`account` matches one account exactly and is used in links. `q` matches a part of an account's name."""
    account, part = searched("account"), searched("q")
    actor, action = searched("actor"), searched("action")
    page = _page_number(request.args.get("page", ""))
    with hub_request.services.directory.database.reading() as session:
        actors, actions = operators.facets(session)
        events: Sequence[OperatorEvent] = ()
        if all(search.can_match for search in (account, part, actor, action)):
            events = operators.listing(
                session,
                PAGE_SIZE + 1,
                page * PAGE_SIZE,
                account.text or None,
                action.text or None,
                actor.text or None,
                part.text,
            )
    chosen = {"account": account.submitted, "q": part.submitted, "actor": actor.submitted, "action": action.submitted}
    return render(
        "console/operator_audit_log.html",
        events=events[:PAGE_SIZE],
        chosen=chosen,
        actors=_choices("All operators", actors, actor, actor_name),
        actions=_choices("All actions", actions, action),
        links=_links(chosen, page, more=len(events) > PAGE_SIZE),
    )


def _choices(
    all_label: str, known: Sequence[str], chosen: AccountSearch, label: Callable[[str], str] = str
) -> list[tuple[str, str]]:
    """The known values, and the selected one even if it is not known."""
    values = sorted({*known, *([chosen.submitted] if chosen.submitted else [])})
    return [("", all_label), *((value, label(value)) for value in values)]


def _links(chosen: dict[str, str], page: int, *, more: bool) -> dict[str, str]:
    def link(number: int) -> str:
        return f"/console/trail?{urlencode({**{n: v for n, v in chosen.items() if v}, 'page': str(number)})}"

    return {**({"previous": link(page - 1)} if page else {}), **({"next": link(page + 1)} if more else {})}


def _page_number(text: str) -> int:
    return min(int(text), MAX_PAGE) if text.isascii() and text.isdigit() and len(text) <= 6 else 0
