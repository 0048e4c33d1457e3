"""`/v1/widget-keys`: the public keys in web pages, and their domain allowlists."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from flask import Response
from pydantic import Field

from kataven.account import agents, widget_keys
from kataven.account.errors import NotFound
from kataven.account.models import WidgetKey
from kataven.identity.issuer import IssuedKey
from kataven.identity.token import TokenKind
from kataven.tenancy.serving.session import TenantSession
from kataven.web.access import READ, WRITE
from kataven.web.conditional import require_match, write_tagged
from kataven.web.idempotency import issue_once
from kataven.web.inputs.widget_keys import WidgetKeyInput, WidgetKeyPatch
from kataven.web.operation import ApiBlueprint, OpenApiLink, ResponseSpec
from kataven.web.paging import PageQuery, write_page
from kataven.web.problems import FieldError, InvalidRequest
from kataven.web.receipts import ReceiptView, record_intent, revoke_credentials
from kataven.web.request_context import RequestContext
from kataven.web.schema import View, write_json
from kataven.widget.embed import snippet

blueprint = ApiBlueprint(
    "widget-keys",
    __name__,
    "widget key",
    "Widget keys: public identifiers for your web pages, restricted to your domains. They are not credentials.",
)


class WidgetKeyView(View):
    """A widget key without its text, which is returned only when the key is created."""

    id: UUID
    name: str
    hint: str = Field(description="The last 8 characters.")
    domain_allowlist: list[str]
    agent_id: UUID | None
    disabled: bool
    created_at: datetime
    created_by: str
    disabled_at: datetime | None


class NewWidgetKeyView(WidgetKeyView):
    """A new widget key with its text and the snippet for a page, which are returned only once."""

    key: str
    snippet: str


class ChangedWidgetKeyView(WidgetKeyView):
    """A widget key without its text, and the receipt if the change revoked access of a page."""

    receipt: ReceiptView | None = Field(None, description="Set if the change revoked access of a page.")


class RemovedWidgetKeyView(View):
    """The removal of a widget key."""

    id: UUID
    outcome: Literal["removed"]
    receipt: ReceiptView


@blueprint.operation(
    "GET",
    "/v1/widget-keys",
    access=READ,
    summary="List widget keys",
    response=ResponseSpec(200, "Widget keys, newest first, without their text.", list[WidgetKeyView]),
    query=PageQuery,
)
def list_widget_keys(context: RequestContext, query: PageQuery) -> Response:
    """Includes disabled keys."""
    with context.reading() as session:
        return write_page(widget_keys.listing(session, query.limit, query.after), shape, query)


@blueprint.operation(
    "POST",
    "/v1/widget-keys",
    access=WRITE,
    summary="Create a widget key",
    response=ResponseSpec(201, "The key, and the snippet that embeds the widget.", NewWidgetKeyView),
    body=WidgetKeyInput,
    idempotent=True,
    returns_secret=True,
    max_body_bytes=64 * 1024,
    links=(
        OpenApiLink("GET", "/v1/widget/config", query={"client_key": "key"}),
        OpenApiLink("POST", "/v1/widget/auth/guest", body={"client_key": "key"}),
    ),
)
def create_widget_key(context: RequestContext, body: WidgetKeyInput) -> Response:
    """The key is public and is embedded in your pages. `domain_allowlist` restricts the pages that it serves."""

    def create(session: TenantSession, issued: IssuedKey) -> dict[str, Any]:
        _require_agent(session, body.agent_id)
        return shape(widget_keys.issue(session, body.name, issued, body.domain_allowlist, body.agent_id, context.actor))

    def respond(created: dict[str, Any], key: str) -> Response:
        script = snippet(context.services.widget.public_url, key)
        headers = {"Cache-Control": "no-store", "Location": f"/v1/widget-keys/{created['id']}"}
        return write_tagged(created, 201, headers, beside={"key": key, "snippet": script})

    return issue_once(context, TokenKind.WIDGET_KEY, create, respond)


@blueprint.operation(
    "GET",
    "/v1/widget-keys/<key_id>",
    access=READ,
    summary="Retrieve a widget key",
    response=ResponseSpec(200, "The key, without its text.", WidgetKeyView),
    conditional=True,
)
def read_widget_key(context: RequestContext, key_id: UUID) -> Response:
    """Also returns disabled keys."""
    with context.reading() as session:
        return write_tagged(shape(widget_keys.read(session, key_id)))


@blueprint.operation(
    "PATCH",
    "/v1/widget-keys/<key_id>",
    access=WRITE,
    summary="Update, disable or enable a widget key",
    response=ResponseSpec(200, "The updated key, with a receipt if a page lost access.", ChangedWidgetKeyView),
    body=WidgetKeyPatch,
    max_body_bytes=64 * 1024,
    conditional=True,
)
def change_widget_key(context: RequestContext, key_id: UUID, body: WidgetKeyPatch) -> Response:
    """If the change revokes access (`disabled: true`, a removed domain, or another pinned agent), the response is sent
    after every worker has stopped issuing tokens to visitors of the affected pages. Visitor sessions of a disabled key
    remain invalid after the key is enabled again, and visitors must start new sessions.
    """
    given = body.given()
    with context.writing() as session:
        _require_agent(session, given.get("agent_id"))
        change = widget_keys.change(session, key_id, given, context.actor, lambda key: require_match(shape(key)))
        changed = shape(change.key)
        # Also for a key that is already disabled: the first request may have stopped before its receipt.
        ends = change.revokes_access or bool(given.get("disabled"))
        intent = None
        if ends:
            intent = record_intent(
                context, str(key_id), revoked=bool(given.get("disabled")), generation=change.key.generation
            )
    if intent is not None:
        return write_tagged(changed, beside={"receipt": revoke_credentials(context, intent, change.event_id)})
    return write_tagged(changed)


@blueprint.operation(
    "DELETE",
    "/v1/widget-keys/<key_id>",
    access=WRITE,
    summary="Delete a widget key",
    response=ResponseSpec(200, "The key was removed; with the receipt.", RemovedWidgetKeyView),
    conditional=True,
)
def delete_widget_key(context: RequestContext, key_id: UUID) -> Response:
    """Pages with this key are rejected afterwards, and its visitor sessions end."""
    with context.writing() as session:
        event, generation = widget_keys.remove(session, key_id, context.actor, lambda key: require_match(shape(key)))
        intent = record_intent(context, str(key_id), generation=generation)
    receipt = revoke_credentials(context, intent, event)
    return write_json({"id": key_id, "outcome": "removed", "receipt": receipt})


def shape(key: WidgetKey) -> dict[str, Any]:
    """The JSON representation of a key."""
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "domain_allowlist": list(key.domain_allowlist),
        "agent_id": key.agent_id,
        "disabled": key.disabled_at is not None,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "disabled_at": key.disabled_at,
    }


def _require_agent(session: TenantSession, agent_id: UUID | None) -> None:
    if agent_id is None:
        return
    try:
        agents.read(session, agent_id)
    except NotFound:
        raise InvalidRequest([FieldError("agent_id", "must be the ID of an agent in this account")]) from None
