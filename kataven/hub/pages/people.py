"""The users who reached the account, by which role, and what ends their access: end the sessions, block, lift."""

from __future__ import annotations

from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import people
from kataven.account.errors import Conflict
from kataven.account.models import SeenPerson
from kataven.hub.formatting import describe_revocation, with_receipt
from kataven.hub.page_blueprint import MANAGERS, HubRequest, PageBlueprint, render, see_other
from kataven.hub.paging import list_query, page_links, range_label, requested_position
from kataven.hub.session_middleware import save_session
from kataven.identity.principal import Role
from kataven.web import user_access
from kataven.web.schema import read_id

blueprint = PageBlueprint("people", __name__, "user")

PATH = "/people"
PAGE_SIZE = 50


@blueprint.page(PATH, MANAGERS)
def show_people(hub_request: HubRequest) -> AnyResponse:
    """`confirm` is the user whose block needs a confirmation."""
    asked = read_id(request.args.get("confirm", ""))
    blocked = user_access.blocks(hub_request)
    with hub_request.reading() as session:
        page = people.listing(session, PAGE_SIZE, requested_position())
        position = range_label(session, SeenPerson, page)
        to_confirm = None if asked is None or str(asked) in blocked else session.get(SeenPerson, asked)
    you = hub_request.principal.person
    if to_confirm is not None and str(to_confirm.id) != you and to_confirm.role != Role.OWNER:
        to_confirm = None  # a link, not the redirect of `block_user`: no confirmation is required
    return render(
        "people.html",
        people=page.rows,
        blocks=blocked,
        you=you,
        may_end_owners=hub_request.principal.role is Role.OWNER,
        to_confirm=to_confirm,
        issuer=hub_request.services.people.issuer,
        links=page_links(page),
        range_label=position,
        list_query=list_query(),
    )


@blueprint.form(f"{PATH}/<person_id>/end-sessions", MANAGERS)
def end_user_sessions(hub_request: HubRequest, person_id: UUID) -> AnyResponse:
    """Shows the list with the receipt. By then, no worker accepts what was issued to the user until now."""
    person, receipt, event = user_access.end_sessions(hub_request, person_id)
    done = describe_revocation(receipt.as_json())
    notice = f"Ended the sessions of {person.name}: {done}. The user can sign in again."
    return _back(hub_request, with_receipt(notice, {"id": event}))


@blueprint.form(f"{PATH}/<person_id>/block", MANAGERS)
def block_user(hub_request: HubRequest, person_id: UUID) -> AnyResponse:
    """Shows the list with the receipt. By then, no worker accepts the user in this account."""
    try:
        person, receipt, event = user_access.block(
            hub_request, person_id, "ended in the Hub", confirmed="confirm" in request.form
        )
    except Conflict:  # yourself, or the last owner
        return see_other(f"{PATH}?confirm={person_id}")
    notice = f"Ended the access of {person.name}: {describe_revocation(receipt.as_json())}."
    return _back(hub_request, with_receipt(notice, {"id": event}))


@blueprint.form(f"{PATH}/<person_id>/lift", MANAGERS)
def lift_block(hub_request: HubRequest, person_id: UUID) -> AnyResponse:
    person = user_access.lift(hub_request, person_id)
    return _back(
        hub_request, f"Lifted the block of {person.name}. A role at the identity provider is required as well."
    )


def _back(hub_request: HubRequest, notice: str) -> AnyResponse:
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(f"{PATH}{list_query()}")
