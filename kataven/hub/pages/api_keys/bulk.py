"""The page that asks before the selected keys are revoked, paused or resumed, with one receipt for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from uuid import UUID

from flask import request
from sqlalchemy import select
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys
from kataven.account.api_keys import BulkAction, KeyChange, KeyOutcome
from kataven.account.models import ApiKey
from kataven.hub.formatting import describe_change, describe_revocation, pluralize, with_receipt
from kataven.hub.page_blueprint import MANAGERS, HubRequest, render, see_other
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import HOME, blueprint
from kataven.hub.pages.api_keys.calls import UseOfKeys, use_of_keys
from kataven.hub.pages.api_keys.recent_use import is_recent
from kataven.hub.pages.api_keys.rows import KeyRow, now, row_of
from kataven.hub.session_middleware import save_session
from kataven.web.receipts import record_account_intent, revoke_together
from kataven.web.schema import read_id

BULK = f"{HOME}/bulk"
DONE = {BulkAction.REVOKE: "Revoked", BulkAction.PAUSE: "Paused", BulkAction.RESUME: "Resumed"}


@blueprint.page(BULK, MANAGERS)
def show_bulk(hub_request: HubRequest) -> AnyResponse:
    """The selection in the list is a form that is sent with GET, so that going back and reloading change nothing."""
    action, ids = _action(request.args.get("action", "")), _ids(request.args.getlist("ids"))
    if not ids:
        save_session(hub_request, hub_request.session.with_(notice="No keys were selected."))
        return see_other(list_state.requested().path)
    return _form(hub_request, action, ids)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    action, ids = _action(submitted.get("action", "")), _ids(submitted.get("keys", "").split())
    return _form(hub_request, action, ids)


@blueprint.form(BULK, MANAGERS, _refill)
def change_api_keys(hub_request: HubRequest) -> AnyResponse:
    """By the time the list reloads, every worker applies the changes."""
    action, ids = _action(request.form.get("action", "")), _ids(request.form.get("keys", "").split())
    keys = _read(hub_request, ids)
    if (
        _needs_word(action, keys, use_of_keys(hub_request, ids))
        and request.form.get("confirm", "").strip().lower() != action
    ):
        return _form(hub_request, action, ids, f"Enter {action} to confirm")
    with hub_request.writing() as session:
        changes = api_keys.change_many(session, action, ids, hub_request.actor)
        found = [change for change in changes if change.outcome is not KeyOutcome.NOT_FOUND]
        intent = record_account_intent(hub_request) if found else None
    notice = _summary(action, changes)
    if intent is not None:
        revoked = [change.key_id for change in found] if action is BulkAction.REVOKE else []
        events = [change.event_id for change in found if change.event_id is not None]
        receipt = revoke_together(hub_request, intent, revoked, events)
        describe = describe_change if action is BulkAction.RESUME else describe_revocation
        notice = with_receipt(f"{notice}: {describe(receipt)}.", {"id": events[0]} if events else {})
    else:
        notice += "."
    save_session(hub_request, hub_request.session.with_(notice=notice))
    state = list_state.requested()
    return see_other(state.row(ids[0]) if ids else state.path)


def _summary(action: BulkAction, changes: Sequence[KeyChange]) -> str:
    """`Paused 3 keys; 1 revoked key was not changed`."""
    counts = {outcome: sum(change.outcome is outcome for change in changes) for outcome in KeyOutcome}
    text = f"{DONE[action]} {pluralize(counts[KeyOutcome.CHANGED], 'key')}"
    if counts[KeyOutcome.UNCHANGED]:
        text += f"; {pluralize(counts[KeyOutcome.UNCHANGED], 'key')} had this state before"
    if counts[KeyOutcome.REVOKED]:
        text += f"; {pluralize(counts[KeyOutcome.REVOKED], 'revoked key')} cannot be changed"
    if counts[KeyOutcome.NOT_FOUND]:
        text += f"; {pluralize(counts[KeyOutcome.NOT_FOUND], 'key')} not found"
    return text


def _action(given: str) -> BulkAction:
    """The least harmful action if the parameter is invalid: the page asks in any case."""
    return BulkAction(given) if given in set(BulkAction) else BulkAction.PAUSE


def _ids(given: Sequence[str]) -> list[UUID]:
    found = (read_id(text) for text in given[: api_keys.MAX_BULK])
    return list(dict.fromkeys(key_id for key_id in found if key_id is not None))


def _read(hub_request: HubRequest, ids: Sequence[UUID]) -> Sequence[KeyRow]:
    days = hub_request.account.rotate_after_days
    with hub_request.reading() as session:
        found = session.scalars(select(ApiKey).where(ApiKey.id.in_(ids)))
        rows = {key.id: row_of(key, days) for key in found}
    return [rows[key_id] for key_id in ids if key_id in rows]


def _needs_word(action: BulkAction, keys: Sequence[KeyRow], use: UseOfKeys) -> bool:
    """Whether the user must enter the action, because a key is used and a revocation can't be undone."""
    return action is BulkAction.REVOKE and _recently_used(keys, use) > 0


def _recently_used(keys: Sequence[KeyRow], use: UseOfKeys) -> int:
    """How many of the keys are not revoked, and were used in the last 24 hours."""
    return sum(
        key.disabled_at is None and (is_recent(key.last_used_at, now()) or use.calls.get(key.id, 0) > 0) for key in keys
    )


def _form(hub_request: HubRequest, action: BulkAction, ids: Sequence[UUID], problem: str | None = None) -> AnyResponse:
    keys, use = _read(hub_request, ids), use_of_keys(hub_request, ids)
    return render(
        "api_keys/bulk.html",
        HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
        action=action,
        verb=action.capitalize(),
        keys=keys,
        ids=" ".join(str(key_id) for key_id in ids),
        state=list_state.requested(),
        needs_word=_needs_word(action, keys, use),
        recent=_recently_used(keys, use),
        use=use,
        stopped=sum(use.calls.get(key.id, 0) for key in keys if key.disabled_at is None),
        problem=problem,
    )
