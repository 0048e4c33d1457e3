"""`/v1/api-keys`: people mint and end keys here. A key can read the list and nothing more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Response
from pydantic import AfterValidator, Field, WithJsonSchema

from kataven.account import api_keys, audit, expiry
from kataven.account.api_keys import KeyStatus
from kataven.account.expiry import Expiry
from kataven.account.models import ApiKey
from kataven.identity.token import TokenKind
from kataven.web.access import MANAGE, READ
from kataven.web.operation import Answer, ApiBlueprint
from kataven.web.paging import PageQuery, write_page
from kataven.web.receipts import ReceiptView, begin_ending, end_credentials
from kataven.web.request_context import RequestContext
from kataven.web.schema import Input, SingleLine, View, no_default, write_json

blueprint = ApiBlueprint("api-keys", __name__, "API key", "API keys: made and ended by people, with a JWT.")

SERVER_SET = frozenset(
    {"id", "hint", "status", "created_at", "created_by", "expires_at", "disabled_at", "last_used_at", "limits", "key"}
)


KeyName = Annotated[str, SingleLine(200)]


class ApiKeyInput(Input):
    """A key to mint."""

    server_set = SERVER_SET

    name: KeyName
    expiry: Expiry = Field(description="How long it lives, within the account's policy.")


def _ended(disabled: bool) -> bool:
    if not disabled:
        raise ValueError("can only become true: a revoked key stays revoked; create a new one")
    return disabled


Ended = Annotated[bool, AfterValidator(_ended), WithJsonSchema({"type": "boolean", "const": True})]


class ApiKeyPatch(Input):
    """A new name, or the end of the key. A revoked key stays revoked."""

    server_set = SERVER_SET

    name: KeyName = Field(default="", json_schema_extra=no_default)
    disabled: Ended = Field(default=True, json_schema_extra=no_default)


class KeyLimitsView(View):
    """Lower limits of this key alone; a limit that is null is the account's."""

    per_minute: int | None
    per_hour: int | None
    per_day: int | None
    concurrent: int | None


class ApiKeyView(View):
    """What is shown of a key. The key itself is shown once, when it is made."""

    id: UUID
    name: str
    hint: str = Field(description="The last 8 characters.")
    status: KeyStatus
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    disabled_at: datetime | None
    last_used_at: datetime | None
    limits: KeyLimitsView | None


class NewApiKeyView(ApiKeyView):
    """A new key, with its text for the only time."""

    key: str


class EndedApiKeyView(ApiKeyView):
    """A key, and if this request ended it, the receipt for that."""

    receipt: ReceiptView | None = None


class RemovedApiKeyView(View):
    """What became of a key: `removed` if nobody ever used it, else `revoked`, its row kept."""

    id: UUID
    outcome: Literal["removed", "revoked"]
    receipt: ReceiptView


@blueprint.operation(
    "GET",
    "/v1/api-keys",
    access=READ,
    summary="List API keys",
    answer=Answer(200, "Keys, newest first, without their text.", list[ApiKeyView]),
    query=PageQuery,
)
def list_api_keys(context: RequestContext, query: PageQuery) -> Response:
    """Revoked and expired ones too."""
    now = datetime.now(UTC)
    with context.reading() as session:
        page = api_keys.listing(session, query.limit, query.after)
        return write_page(page, lambda key: shape(key, now), query)


@blueprint.operation(
    "POST",
    "/v1/api-keys",
    access=MANAGE,
    summary="Mint an API key",
    answer=Answer(201, "The key. Keep it: it is never shown again.", NewApiKeyView),
    body=ApiKeyInput,
    max_body_bytes=8 * 1024,
    refusals=("expiry_exceeds_policy",),
)
def create_api_key(context: RequestContext, body: ApiKeyInput) -> Response:
    """A key does all that the account allows but manage keys. `expiry` is held to the account's policy."""
    now = datetime.now(UTC)
    ends = expiry.expires_at(body.expiry, now, context.account.max_key_expiry_days)
    issued = context.services.issuer.issue(TokenKind.API_KEY, context.account.account)
    with context.writing() as session:
        created = shape(api_keys.issue(session, body.name, issued, ends, context.actor), now)
    return write_json({**created, "key": issued.text}, 201, {"Cache-Control": "no-store"})


@blueprint.operation(
    "PATCH",
    "/v1/api-keys/<key_id>",
    access=MANAGE,
    summary="Rename or revoke an API key",
    answer=Answer(200, "The key as it is now; with a receipt if it was revoked.", EndedApiKeyView),
    body=ApiKeyPatch,
    max_body_bytes=8 * 1024,
)
def change_api_key(context: RequestContext, key_id: UUID, body: ApiKeyPatch) -> Response:
    """`disabled: true` revokes: when this has answered, no worker on any host accepts the key."""
    given = body.given()
    ending = event = None
    with context.writing() as session:
        key = api_keys.rename(session, key_id, given.get("name"), context.actor)
        if "disabled" in given:
            key, event = api_keys.revoke(session, key_id, context.actor)
            ending = begin_ending(context, str(key_id))
        changed = shape(key, datetime.now(UTC))
    if ending is not None:
        # Also for a key that had ended before: its first revoker may have been cut off before its receipt.
        changed["receipt"] = end_credentials(context, ending, event)
    return write_json(changed)


@blueprint.operation(
    "DELETE",
    "/v1/api-keys/<key_id>",
    access=MANAGE,
    summary="Remove an API key",
    answer=Answer(200, "Whether its row is gone or kept, and the receipt.", RemovedApiKeyView),
)
def delete_api_key(context: RequestContext, key_id: UUID) -> Response:
    """Ends the key. A key that nobody ever used is removed; the row of one that was used stays, revoked."""
    with context.writing() as session:
        _, event = api_keys.revoke(session, key_id, context.actor)
        ending = begin_ending(context, str(key_id))
    receipt = end_credentials(context, ending, event)
    with context.writing() as session:
        removed = api_keys.remove_if_unused(session, key_id)
        if removed:
            audit.record(session, context.actor, "api_key.removed", key_id)
    return write_json({"id": key_id, "outcome": "removed" if removed else "revoked", "receipt": receipt})


def shape(key: ApiKey, now: datetime) -> dict[str, Any]:
    """A key as clients see it."""
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "status": api_keys.status(key, now),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "disabled_at": key.disabled_at,
        "last_used_at": key.last_used_at,
        "limits": key.limits and {name: key.limits.get(name) for name in KeyLimitsView.model_fields},
    }
