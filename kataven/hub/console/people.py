"""Users for operators: who reached an account, who is blocked, whose sessions ended, and the issuer's events."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import people as seen_people
from kataven.account.errors import NotFound
from kataven.hub.formatting import describe_revocation
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, read_form, render, see_other
from kataven.hub.paging import page_links, requested_position
from kataven.hub.session_middleware import save_session
from kataven.identity.jwt import MAX_SUBJECT_LENGTH
from kataven.identity.people import Person
from kataven.identity.token import is_account_name
from kataven.operations import people
from kataven.operations.operator import Operator
from kataven.people.access import EVENT_APPLIED, EVENT_IGNORED
from kataven.system import cutoffs, operators
from kataven.system.directory import AccountRecord
from kataven.validation import Shaped
from kataven.web.schema import Input, SingleLine

blueprint = PageBlueprint("console-people", __name__, "user")

PATH = "/console/people"
PAGE_SIZE = 50
LATEST = 20


class EndSessionsForm(Input):
    """A user whose sessions end in all accounts, by the `sub` at the issuer."""

    sub: Annotated[str, SingleLine(MAX_SUBJECT_LENGTH), Shaped(r"^[\x21-\x7e]+$", "must be a `sub` without spaces")]


@blueprint.page(PATH, OPERATORS)
def show_all_people(hub_request: HubRequest) -> AnyResponse:
    return _overview(hub_request)


def _refill_end(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _overview(hub_request, submitted)


@blueprint.form(f"{PATH}/end", OPERATORS, _refill_end)
def end_everywhere(hub_request: HubRequest) -> AnyResponse:
    """End the sessions of a user in all accounts."""
    form, problems = read_form(EndSessionsForm, sub=request.form.get("sub", "").strip())
    if form is None:
        return _overview(hub_request, request.form, problems)
    receipt = people.end_sessions(_operator(hub_request), _person(hub_request, form.sub), None)
    done = describe_revocation(receipt.as_json())
    return _back(hub_request, PATH, f"Ended the sessions of {form.sub} in all accounts: {done}.")


@blueprint.page("/console/accounts/<account>/people", OPERATORS)
def show_account_people(hub_request: HubRequest, account: str) -> AnyResponse:
    record = _find(hub_request, account)
    blocked = {one.subject: one for one in hub_request.services.people.blocks(account)}
    with hub_request.services.registry.reading(record.tenant) as session:
        page = seen_people.listing(session, PAGE_SIZE, requested_position())
    return render(
        "console/account_people.html",
        record=record,
        people=page.rows,
        blocks=blocked,
        issuer=hub_request.services.people.issuer,
        links=page_links(page),
    )


@blueprint.form("/console/accounts/<account>/people/<person_id>/end-sessions", OPERATORS)
def end_in_account(hub_request: HubRequest, account: str, person_id: UUID) -> AnyResponse:
    name, person = _seen(hub_request, account, person_id)
    receipt = people.end_sessions(_operator(hub_request), person, account)
    done = describe_revocation(receipt.as_json())
    return _back(hub_request, _path(account), f"Ended the sessions of {name} in {account}: {done}.")


@blueprint.form("/console/accounts/<account>/people/<person_id>/block", OPERATORS)
def block_in_account(hub_request: HubRequest, account: str, person_id: UUID) -> AnyResponse:
    name, person = _seen(hub_request, account, person_id)
    receipt = people.block(_operator(hub_request), person, name, account)
    done = describe_revocation(receipt.as_json())
    return _back(hub_request, _path(account), f"Ended the access of {name} to {account}: {done}.")


@blueprint.form("/console/accounts/<account>/people/<person_id>/lift", OPERATORS)
def lift_in_account(hub_request: HubRequest, account: str, person_id: UUID) -> AnyResponse:
    """Also lifts the block of a user whom the account has not seen for 90 days."""
    _find(hub_request, account)
    lifted = people.lift(_operator(hub_request), str(person_id), account)
    return _back(hub_request, _path(account), "Lifted the block." if lifted else "The block was lifted already.")


def _overview(
    hub_request: HubRequest, submitted: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    with hub_request.services.directory.database.reading() as session:
        blocked = cutoffs.latest_blocks(session, PAGE_SIZE)
        ended = cutoffs.latest(session, LATEST)
        events = operators.listing(session, LATEST, actions=(EVENT_APPLIED, EVENT_IGNORED))
    return render(
        "console/people.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        blocks=blocked,
        ended=ended,
        events=events,
        applied=EVENT_APPLIED,
        issuer=hub_request.services.people.issuer,
        submitted=submitted or {},
        problems=problems or {},
    )


def _seen(hub_request: HubRequest, account: str, person_id: UUID) -> tuple[str, Person]:
    """The name of a user of the account, and the user. Raises NotFound."""
    record = _find(hub_request, account)
    with hub_request.services.registry.reading(record.tenant) as session:
        found = seen_people.read(session, person_id)
        return found.name, Person(found.issuer, found.sub)


def _find(hub_request: HubRequest, account: str) -> AccountRecord:
    record = hub_request.services.directory.read(account) if is_account_name(account) else None
    if record is None:
        raise NotFound("account")
    return record


def _person(hub_request: HubRequest, sub: str) -> Person:
    return hub_request.services.people.person(sub)


def _operator(hub_request: HubRequest) -> Operator:
    return Operator(hub_request.operator_label, hub_request.services)


def _path(account: str) -> str:
    return f"/console/accounts/{account}/people"


def _back(hub_request: HubRequest, path: str, notice: str) -> AnyResponse:
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(path)
