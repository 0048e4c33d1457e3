"""The page of one key: calls, facts, secrets, timeline, and links to what can be changed."""

from __future__ import annotations

from uuid import UUID

from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys, audit
from kataven.hub.page_blueprint import MEMBERS, HubRequest, render
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import KEY, blueprint
from kataven.hub.pages.api_keys.calls import PERIODS, calls_of_key
from kataven.hub.pages.api_keys.rotate import END_CHOICES
from kataven.hub.pages.api_keys.rows import row_of
from kataven.hub.pages.api_keys.secrets import secrets_of_key
from kataven.hub.pages.api_keys.timeline import MAX_EVENTS, timeline


@blueprint.page(KEY, MEMBERS)
def show_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    days = hub_request.account.rotate_after_days
    with hub_request.reading() as session:
        key = api_keys.read(session, key_id)
        revoked_at = {} if key.disabled_at is None else {key.id: key.disabled_at}
        revoked_by = audit.revoked_by(session, "api_key.revoked", revoked_at).get(str(key.id))
        row = row_of(key, days)
        secrets = secrets_of_key(session, key_id, hub_request.account.tenant)
        events = timeline(session, key_id) if hub_request.may_manage else ()
    return render(
        "api_keys/key.html",
        key=row,
        state=list_state.requested(),
        revoked_by=revoked_by,
        secrets=secrets,
        events=events,
        has_more_events=len(events) == MAX_EVENTS,
        end_choices=END_CHOICES,
        rotate_after_days=days,
        calls=calls_of_key(hub_request, key_id),
        periods=PERIODS,
    )
