"""The page that asks before a key is revoked, and shows what the revocation would stop."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys
from kataven.account.key_status import KeyStatus
from kataven.hub.formatting import describe_revocation, with_receipt
from kataven.hub.page_blueprint import MANAGERS, HubRequest, render, see_other
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import KEY, blueprint
from kataven.hub.pages.api_keys.calls import UseOfKey, use_of_key
from kataven.hub.pages.api_keys.recent_use import is_recent
from kataven.hub.pages.api_keys.rows import KeyRow, now, row_of
from kataven.hub.session_middleware import save_session
from kataven.web.receipts import record_intent, revoke_credentials

REVOKE = f"{KEY}/revoke"


@blueprint.page(REVOKE, MANAGERS)
def show_revoke_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _form(_read(hub_request, key_id), use_of_key(hub_request, key_id))


def _refill(hub_request: HubRequest, _: Mapping[str, str], key_id: UUID) -> AnyResponse:
    return _form(_read(hub_request, key_id), use_of_key(hub_request, key_id))


@blueprint.form(REVOKE, MANAGERS, _refill)
def revoke_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """Shows the list with the receipt. By then, no worker accepts the key."""
    key, use = _read(hub_request, key_id), use_of_key(hub_request, key_id)
    if _needs_name(key, use) and request.form.get("confirm", "").strip() != key.name.strip():
        return _form(key, use, "Enter the name of the key to revoke it")
    with hub_request.writing() as session:
        revoked, event = api_keys.revoke(session, key_id, hub_request.actor)
        name, hint = revoked.name, revoked.hint
        intent = record_intent(hub_request, str(key_id))
    receipt = revoke_credentials(hub_request, intent, event)
    notice = with_receipt(f"Revoked “{name}” (…{hint}): {describe_revocation(receipt)}.", receipt)
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(list_state.requested().row(key_id))


def _read(hub_request: HubRequest, key_id: UUID) -> KeyRow:
    with hub_request.reading() as session:
        return row_of(api_keys.read(session, key_id), hub_request.account.rotate_after_days)


def _needs_name(key: KeyRow, use: UseOfKey | None) -> bool:
    """Whether the user must enter the name: the key is used, so that a mistake breaks something."""
    if key.status is KeyStatus.REVOKED:
        return False
    return is_recent(key.last_used_at, now()) or (use is not None and use.found.calls_last_day > 0)


def _form(key: KeyRow, use: UseOfKey | None, problem: str | None = None) -> AnyResponse:
    return render(
        "api_keys/revoke.html",
        HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK,
        key=key,
        state=list_state.requested(),
        needs_name=_needs_name(key, use),
        use=use,
        problem=problem,
    )
