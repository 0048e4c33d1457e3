"""The form that changes the name, the conditions and the limits of a key."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys
from kataven.account.models import ApiKey
from kataven.hub.edits import SEEN, FieldLabel, as_text, read_edit, seen_of
from kataven.hub.formatting import describe_change
from kataven.hub.key_rules_form import LABELS, excludes, exclusion_note, read_rules, saved_fields, sent_fields
from kataven.hub.page_blueprint import MANAGERS, HubRequest, read_form, render, see_other
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import KEY, blueprint
from kataven.hub.pages.api_keys.recent_use import excluded_use, recent_addresses
from kataven.hub.pages.api_keys.rows import row_of
from kataven.hub.session_middleware import save_session
from kataven.web.inputs.api_keys import KeyName
from kataven.web.receipts import record_intent, revoke_credentials
from kataven.web.schema import Input

EDIT = f"{KEY}/edit"
SAVE_ANYWAY = "save_anyway"
_LABELS = {"name": FieldLabel("Name"), **LABELS}


class NameForm(Input):
    """The name of a key. `key_rules_form` reads the other fields."""

    name: KeyName


@blueprint.page(EDIT, MANAGERS)
def show_edit_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _form(hub_request, key_id)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str], key_id: UUID) -> AnyResponse:
    return _form(hub_request, key_id, submitted)


@blueprint.form(EDIT, MANAGERS, _refill)
def edit_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """By the time the page reloads, every worker applies the conditions and limits."""
    form, problems = read_form(NameForm)
    submitted, rule_problems = read_rules(hub_request.account.limits, None)
    if form is None or submitted is None:
        return _form(hub_request, key_id, request.form, {**problems, **rule_problems})
    warning = excluded_use(hub_request, key_id, submitted.form)
    if warning is not None and SAVE_ANYWAY not in request.form:
        return _form(hub_request, key_id, request.form, {"allowed_addresses": warning})
    edit = read_edit({"name": form.name, **sent_fields(submitted)}, _LABELS, SAVE_ANYWAY)
    account, actor = hub_request.account.limits, hub_request.actor
    with hub_request.writing() as session:
        key = api_keys.lock(session, key_id)
        edit.check(_saved(key))
        api_keys.rename(session, key_id, form.name, actor)
        api_keys.change_rules(session, key_id, submitted.conditions_for(key), actor)
        api_keys.change_limits(session, key_id, submitted.limits, account, actor, clear=True)
        intent = record_intent(hub_request, str(key_id), revoked=False)
    notice = f"Saved “{form.name}”: {describe_change(revoke_credentials(hub_request, intent, None))}."
    if excludes(submitted.form, hub_request.address):
        notice += exclusion_note(hub_request.address)
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(list_state.requested().key(key_id))


def _saved(key: ApiKey) -> dict[str, Any]:
    return {"name": key.name, **saved_fields(key)}


def _form(
    hub_request: HubRequest,
    key_id: UUID,
    submitted: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
) -> AnyResponse:
    with hub_request.reading() as session:
        key = api_keys.read(session, key_id)
        row, saved = row_of(key, hub_request.account.rotate_after_days), _saved(key)
    shown = {name: as_text(value) for name, value in saved.items()} | {SEEN: seen_of(saved)}
    return render(
        "api_keys/edit.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        key=row,
        state=list_state.requested(),
        submitted=submitted or shown,
        problems=problems or {},
        used_from=recent_addresses(hub_request, key_id),
    )
