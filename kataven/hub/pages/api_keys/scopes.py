"""The form that reduces the scopes of a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys
from kataven.account.api_keys import KeyRules
from kataven.account.errors import WiderScopes
from kataven.hub.formatting import describe_change
from kataven.hub.key_rules_form import SCOPE_FIELD
from kataven.hub.page_blueprint import MANAGERS, HubRequest, render, see_other
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import KEY, blueprint
from kataven.hub.pages.api_keys.rows import KeyRow, row_of
from kataven.hub.session_middleware import save_session
from kataven.identity import scopes
from kataven.web.receipts import record_intent, revoke_credentials

SCOPES = f"{KEY}/scopes"
NONE_LEFT = "Choose at least one scope. To reject every request, pause or revoke the key"
CONCURRENT = "The scopes of the key were reduced in the meantime. Check the selection"


@blueprint.page(SCOPES, MANAGERS)
def show_api_key_scopes(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _form(hub_request, key_id)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str], key_id: UUID) -> AnyResponse:
    return _form(hub_request, key_id, submitted)


@blueprint.form(SCOPES, MANAGERS, _refill)
def reduce_api_key_scopes(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """By the time the page reloads, every worker applies the new scopes."""
    known = hub_request.services.scopes
    chosen = [name for name in known if SCOPE_FIELD + name in request.form]
    if not chosen:
        return _form(hub_request, key_id, request.form, NONE_LEFT)
    names = scopes.normalized(chosen, known)
    try:
        with hub_request.writing() as session:
            key = api_keys.change_rules(session, key_id, {"scopes": names}, hub_request.actor)
            name = key.name
            intent = record_intent(hub_request, str(key_id), revoked=False)
    except WiderScopes:
        return _form(hub_request, key_id, request.form, CONCURRENT)
    receipt = describe_change(revoke_credentials(hub_request, intent, None))
    notice = f"Reduced the scopes of “{name}” to {', '.join(names)}: {receipt}."
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(list_state.requested().key(key_id))


def _form(
    hub_request: HubRequest, key_id: UUID, submitted: Mapping[str, str] | None = None, problem: str | None = None
) -> AnyResponse:
    with hub_request.reading() as session:
        key = api_keys.read(session, key_id)
        row, own = row_of(key, hub_request.account.rotate_after_days), KeyRules.of(key).scopes
    shown = {SCOPE_FIELD + name: "on" for name in (tuple(hub_request.services.scopes) if own is None else own)}
    return render(
        "api_keys/scopes.html",
        HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
        key=row,
        state=list_state.requested(),
        nouns=_choices(hub_request, row),
        submitted=shown if submitted is None else submitted,
        problem=problem,
    )


def _choices(hub_request: HubRequest, key: KeyRow) -> Mapping[str, Sequence[str]]:
    """The scopes that the key grants, by noun: those that it can keep."""
    by_noun = hub_request.services.scopes.by_noun()
    if key.rules.scopes is None:
        return by_noun
    granted = scopes.granted(key.rules.scopes)
    kept = {noun: tuple(name for name in names if name in granted) for noun, names in by_noun.items()}
    return {noun: names for noun, names in kept.items() if names}
