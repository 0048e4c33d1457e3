"""The buttons that pause and resume a key."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys
from kataven.account.audit import Actor
from kataven.account.models import ApiKey
from kataven.hub.formatting import describe_change, describe_revocation, with_receipt
from kataven.hub.page_blueprint import MANAGERS, HubRequest, see_other
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import KEY, blueprint
from kataven.hub.session_middleware import save_session
from kataven.web.receipts import record_intent, revoke_credentials


@blueprint.form(f"{KEY}/pause", MANAGERS)
def pause_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """By the time the page reloads, no worker accepts the key."""
    return _change(hub_request, key_id, api_keys.pause, "Paused")


@blueprint.form(f"{KEY}/resume", MANAGERS)
def resume_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _change(hub_request, key_id, api_keys.resume, "Resumed")


def _change(
    hub_request: HubRequest,
    key_id: UUID,
    change: Callable[[Session, UUID, Actor], tuple[ApiKey, UUID | None]],
    done: str,
) -> AnyResponse:
    with hub_request.writing() as session:
        key, event = change(session, key_id, hub_request.actor)
        name, hint = key.name, key.hint
        intent = record_intent(hub_request, str(key_id), revoked=False)
    describe = describe_revocation if change is api_keys.pause else describe_change
    receipt = revoke_credentials(hub_request, intent, event)
    notice = with_receipt(f"{done} “{name}” (…{hint}): {describe(receipt)}.", receipt)
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(list_state.requested().key(key_id))
