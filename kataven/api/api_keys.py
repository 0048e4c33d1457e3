"""`/v1/api-keys`: creates, lists and revokes API keys. API keys can list keys only; the rest requires a JWT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Response
from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema
from sqlalchemy.orm import Session

from kataven.account import api_keys, audit, expiry, rotation
from kataven.account.api_keys import BulkAction, KeyOutcome, KeyRules
from kataven.account.audit import Actor
from kataven.account.errors import WiderScopes
from kataven.account.expiry import Expiry
from kataven.account.key_search import KeyFilter, search
from kataven.account.key_status import KeyStatus, columns_of, is_rotation_due, moment_in, secret_created_at, status
from kataven.account.models import ApiKey, FormerSecret
from kataven.identity.issuer import IssuedKey
from kataven.identity.token import TokenKind
from kataven.ratelimit.policy import LIMIT_FIELDS
from kataven.revocation.revocation import Intent
from kataven.web.access import MANAGE, READ
from kataven.web.idempotency import issue_once
from kataven.web.inputs.api_keys import (
    AllowedAddresses,
    DeniedAddresses,
    FromBrowsers,
    KeyLimitsInput,
    KeyName,
    NotBefore,
    ScopeList,
    checked_limits,
    known_scopes,
)
from kataven.web.operation import ApiBlueprint, ResponseSpec
from kataven.web.paging import FilteredPageQuery, write_page
from kataven.web.problems import FieldError, InvalidRequest
from kataven.web.receipts import (
    ReceiptView,
    record_account_intent,
    record_intent,
    revoke_credentials,
    revoke_together,
)
from kataven.web.request_context import RequestContext
from kataven.web.schema import Input, View, fields_of, no_default, no_nul, with_fields, write_json

blueprint = ApiBlueprint("api-keys", __name__, "API key", "API keys: created and revoked by users, with a JWT.")

SERVER_SET = frozenset(
    {
        "id",
        "hint",
        "status",
        "created_at",
        "created_by",
        "expires_at",
        "disabled_at",
        "paused_at",
        "last_used_at",
        "browser_use_at",
        "secret_created_at",
        "rotation_due",
        "former_secrets",
        "key",
    }
)


class ApiKeyInput(Input):
    """An API key to create."""

    server_set = SERVER_SET

    name: KeyName
    expiry: Expiry = Field(description="When the key expires. The account's policy can limit it.")
    scopes: ScopeList = Field(default=None, json_schema_extra=no_default)
    allowed_addresses: AllowedAddresses = Field(default=[], json_schema_extra=no_default)
    denied_addresses: DeniedAddresses = Field(default=[], json_schema_extra=no_default)
    from_browsers: FromBrowsers = Field(default=False, json_schema_extra=no_default)
    not_before: NotBefore = Field(default=None, json_schema_extra=no_default)
    limits: KeyLimitsInput | None = Field(default=None, json_schema_extra=no_default)


def _only_true(disabled: bool) -> bool:
    if not disabled:
        raise ValueError("must be true: a revoked key can't be restored; create a new one")
    return disabled


RevokedFlag = Annotated[bool, AfterValidator(_only_true), WithJsonSchema({"type": "boolean", "const": True})]


class ApiKeyPatch(Input):
    """A new name, limits or conditions; fewer scopes; `paused` to pause or resume the key; or `disabled: true` to
    revoke it. A revoked key can't be restored."""

    server_set = SERVER_SET

    name: KeyName = Field(default="", json_schema_extra=no_default)
    disabled: RevokedFlag = Field(default=True, json_schema_extra=no_default)
    paused: bool = Field(default=False, json_schema_extra=no_default)
    scopes: ScopeList = Field(default=None, json_schema_extra=no_default)
    allowed_addresses: AllowedAddresses = Field(default=[], json_schema_extra=no_default)
    denied_addresses: DeniedAddresses = Field(default=[], json_schema_extra=no_default)
    from_browsers: FromBrowsers = Field(default=False, json_schema_extra=no_default)
    not_before: NotBefore = Field(default=None, json_schema_extra=no_default)
    limits: KeyLimitsInput | None = Field(default=None, json_schema_extra=no_default)


@with_fields((limit.field for limit in LIMIT_FIELDS), int | None)
class KeyLimitsView(View):
    """The key's own limits, which are lower than the account's. Null means the account's limit."""


class FormerSecretView(View):
    """A secret of an API key that was replaced by a rotation."""

    hint: str = Field(description="The last 8 characters.")
    rotated_at: datetime
    grace_seconds: int
    ends_at: datetime | None = Field(
        description="When it is refused, or was. Null until the new secret is used: the former one is accepted."
    )
    late_uses: int = Field(description="How often it was used after its end, and refused.")
    last_late_use_at: datetime | None
    last_late_address: str | None


class ApiKeyView(View):
    """An API key, without its secret. The complete key is returned once, when it is created."""

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
    scopes: list[str] | None = Field(description="What the key may do. Null means full access.")
    allowed_addresses: list[str]
    denied_addresses: list[str]
    from_browsers: bool
    browser_use_at: datetime | None = Field(description="When a browser last sent the key, and it was rejected.")
    not_before: datetime | None
    paused_at: datetime | None
    secret_created_at: datetime = Field(description="When the current secret was created.")
    rotation_due: bool = Field(
        description="Whether the current secret is older than the account's policy allows. It remains accepted: rotate "
        "the key. Always false without a policy, and for revoked and expired keys."
    )
    former_secrets: list[FormerSecretView] = Field(description="Up to 5 secrets that were replaced, latest first.")


class RotateInput(Input):
    """How to rotate an API key."""

    grace_seconds: int = Field(
        default=rotation.DEFAULT_GRACE_SECONDS,
        ge=0,
        le=rotation.MAX_GRACE_SECONDS,
        description="How long the current secret is accepted after the first use of the new one. At most 7 days.",
    )


class FormerSecretPatch(Input):
    """When the former secret of an API key ends."""

    ends_in_seconds: int = Field(
        ge=0,
        le=rotation.MAX_GRACE_SECONDS,
        description="The former secret is refused after this time at the latest, even if the new secret was not used. "
        "0: at once. A later end than the current one changes nothing.",
    )


class NewApiKeyView(ApiKeyView):
    """A new API key with the complete key, which is returned only once."""

    key: str


class RotatedApiKeyView(ApiKeyView):
    """An API key with its new secret, which is returned only once."""

    key: str
    receipt: ReceiptView | None = Field(
        None, description="Set if a new secret that had not been used was replaced: no worker accepts it."
    )


class ChangedApiKeyView(ApiKeyView):
    """An API key, and the receipt if the request changed more than its name."""

    receipt: ReceiptView | None = None


class RemovedApiKeyView(View):
    """The outcome: `removed` if the key was never used; otherwise `revoked`, and the key remains in the list."""

    id: UUID
    outcome: Literal["removed", "revoked"]
    receipt: ReceiptView


class ApiKeyBulkInput(Input):
    """A change of several API keys."""

    action: Literal["revoke", "pause", "resume"] = Field(
        description="What to do with the keys. A revoked key can't be restored."
    )
    ids: Annotated[list[UUID], Field(min_length=1, max_length=api_keys.MAX_BULK)] = Field(
        description="The IDs of the keys. A repeated ID counts once."
    )


class BulkOutcomeView(View):
    """What the request did to one key."""

    id: UUID
    outcome: KeyOutcome = Field(
        description="`changed`; `unchanged` if the key was in this state before; `revoked` if it is revoked and "
        "can't be paused or resumed; or `not_found`."
    )


class BulkResultView(View):
    """The outcomes, and the receipt; null if no key was found."""

    results: list[BulkOutcomeView]
    receipt: ReceiptView | None


Days = Annotated[int, Field(ge=1, le=3650)]
SearchText = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(no_nul)]


class ApiKeyQuery(FilteredPageQuery):
    """Filters of the list. A key must match all of them."""

    status: Literal["active", "expired", "revoked", "paused", "not_yet_valid"] | None = Field(
        default=None, description="Only keys with this status."
    )
    unused_for: Days | None = Field(
        default=None,
        description="Only keys that were not used for this number of days. A key that was never used counts from its "
        "creation.",
    )
    expires_within: Days | None = Field(
        default=None, description="Only valid keys that expire within this number of days."
    )
    rotation_due: bool | None = Field(
        default=None, description="Only keys that are due for rotation by the account's policy; or false, the others."
    )
    q: SearchText | None = Field(
        default=None, description="A part of the name, ignoring case; or the complete ID, or the last 8 characters."
    )


@blueprint.operation(
    "GET",
    "/v1/api-keys",
    access=READ,
    summary="List API keys",
    response=ResponseSpec(200, "A page of API keys, newest first, without their secrets.", list[ApiKeyView]),
    query=ApiKeyQuery,
)
def list_api_keys(context: RequestContext, query: ApiKeyQuery) -> Response:
    """Includes revoked and expired keys, unless a filter excludes them."""
    now, rotate_after = datetime.now(UTC), context.account.rotate_after_days
    wanted = KeyFilter(
        query.q or "",
        None if query.status is None else KeyStatus(query.status),
        unused_for=_days(query.unused_for),
        expires_within=_days(query.expires_within),
        rotation_due=query.rotation_due,
        rotate_after=_days(rotate_after),
    )
    with context.reading() as session:
        page = search(session, query.limit, query.after, wanted, columns_of(context.account.tenant))
        former = _former_secrets(session, page.rows)
        return write_page(page, lambda key: shape(key, now, rotate_after, former.get(key.id, ())), query)


def _days(count: int | None) -> timedelta | None:
    return None if count is None else timedelta(days=count)


@blueprint.operation(
    "POST",
    "/v1/api-keys",
    access=MANAGE,
    summary="Create an API key",
    response=ResponseSpec(201, "The API key. Store it securely: it is not returned again.", NewApiKeyView),
    body=ApiKeyInput,
    idempotent=True,
    returns_secret=True,
    max_body_bytes=8 * 1024,
    refusals=("expiry_exceeds_policy",),
)
def create_api_key(context: RequestContext, body: ApiKeyInput) -> Response:
    """A key without `scopes` has full access to the account, except managing keys. `expiry` must be within the
    account's policy."""
    now = datetime.now(UTC)
    limits = checked_limits(body.limits, context.account.limits)
    rules = KeyRules(
        known_scopes(body.scopes, context.services.scopes),
        tuple(body.allowed_addresses),
        tuple(body.denied_addresses),
        body.from_browsers,
        body.not_before,
    )
    expires_at = expiry.expires_at(body.expiry, now, context.account.max_key_expiry_days)

    def create(session: Session, issued: IssuedKey) -> dict[str, Any]:
        key = api_keys.issue(session, body.name, issued, expires_at, context.actor, rules, limits)
        return shape(key, now, context.account.rotate_after_days)

    def respond(created: dict[str, Any], key: str) -> Response:
        return write_json({**created, "key": key}, 201, {"Cache-Control": "no-store"})

    return issue_once(context, TokenKind.API_KEY, create, respond)


@blueprint.operation(
    "POST",
    "/v1/api-keys/<key_id>/rotate",
    access=MANAGE,
    summary="Rotate an API key",
    response=ResponseSpec(200, "The API key with its new secret. Store it securely.", RotatedApiKeyView),
    body=RotateInput,
    idempotent=True,
    returns_secret=True,
    max_body_bytes=8 * 1024,
    refusals=("conflict",),
)
def rotate_api_key(context: RequestContext, key_id: UUID, body: RotateInput) -> Response:
    """The key keeps its id, name, scopes and limits. The current secret is accepted until the new one is used for the
    first time, and then for `grace_seconds`. If you rotate again before that first use, the unused secret is replaced
    and refused. Returns 409 `conflict` during the grace period, and for a key that is revoked or expired."""
    now = datetime.now(UTC)
    replaced: list[tuple[Intent, UUID]] = []

    def create(session: Session, issued: IssuedKey) -> dict[str, Any]:
        rotated = rotation.rotate(session, key_id, issued, body.grace_seconds, context.actor)
        shaped = shape(
            rotated.key, now, context.account.rotate_after_days, rotation.former_secrets(session, [key_id])[key_id]
        )
        if rotated.replaced:
            replaced.append((record_intent(context, str(key_id), revoked=False), rotated.event_id))
        return shaped

    def respond(rotated: dict[str, Any], key: str) -> Response:
        response = {**rotated, "key": key}
        if replaced:
            response["receipt"] = revoke_credentials(context, *replaced[-1])
        return write_json(response, 200, {"Cache-Control": "no-store"})

    return issue_once(context, TokenKind.API_KEY, create, respond)


@blueprint.operation(
    "PATCH",
    "/v1/api-keys/<key_id>/former-secret",
    access=MANAGE,
    summary="End the former secret of an API key",
    response=ResponseSpec(200, "The API key, and the receipt.", ChangedApiKeyView),
    body=FormerSecretPatch,
    max_body_bytes=8 * 1024,
    refusals=("conflict",),
)
def change_former_secret(context: RequestContext, key_id: UUID, body: FormerSecretPatch) -> Response:
    """Once the response is returned, every worker on every host applies the change. Returns 409 `conflict` if no former
    secret is accepted any more, unless `ends_in_seconds` is 0."""
    with context.writing() as session:
        ended = rotation.shorten(session, key_id, body.ends_in_seconds, context.actor)
        former = rotation.former_secrets(session, [key_id]).get(key_id, ())
        changed = shape(ended.key, datetime.now(UTC), context.account.rotate_after_days, former)
        intent = record_intent(context, str(key_id), revoked=False, secrets_below=ended.below)
    changed["receipt"] = revoke_credentials(context, intent, ended.event_id)
    return write_json(changed)


@blueprint.operation(
    "POST",
    "/v1/api-keys/bulk",
    access=MANAGE,
    summary="Revoke, pause or resume several API keys",
    response=ResponseSpec(200, "The outcome for each key, in the order of `ids`, and one receipt.", BulkResultView),
    body=ApiKeyBulkInput,
    max_body_bytes=8 * 1024,
)
def change_api_keys(context: RequestContext, body: ApiKeyBulkInput) -> Response:
    """Changes all keys in one transaction. Once the response is returned, every worker on every host applies the
    changes. Keys that are not found, or that are revoked and can't be paused or resumed, are reported and do not
    prevent the others."""
    action, ids = BulkAction(body.action), list(dict.fromkeys(body.ids))
    with context.writing() as session:
        changes = api_keys.change_many(session, action, ids, context.actor)
        found = [change for change in changes if change.outcome is not KeyOutcome.NOT_FOUND]
        intent = record_account_intent(context) if found else None
    receipt = None
    if intent is not None:
        # Even for keys that were revoked before: the first request may have failed before its receipt.
        revoked = [change.key_id for change in found] if action is BulkAction.REVOKE else []
        events = [change.event_id for change in found if change.event_id is not None]
        receipt = revoke_together(context, intent, revoked, events)
    results = [{"id": change.key_id, "outcome": change.outcome} for change in changes]
    return write_json({"results": results, "receipt": receipt})


@blueprint.operation(
    "PATCH",
    "/v1/api-keys/<key_id>",
    access=MANAGE,
    summary="Update or revoke an API key",
    response=ResponseSpec(
        200, "The updated API key, with a receipt if more than its name was changed.", ChangedApiKeyView
    ),
    body=ApiKeyPatch,
    max_body_bytes=8 * 1024,
    refusals=("conflict",),
)
def change_api_key(context: RequestContext, key_id: UUID, body: ApiKeyPatch) -> Response:
    """`disabled: true` revokes the key, and `paused: true` pauses it. Once the response is returned, every worker on
    every host applies the change. Returns 409 `conflict` for other changes of a revoked key."""
    given = body.given()
    rules = {name: _immutable(given[name]) for name in RULES if name in given}
    if "scopes" in rules:
        rules["scopes"] = known_scopes(body.scopes, context.services.scopes)
    intent = event = None
    with context.writing() as session:
        key = api_keys.rename(session, key_id, given.get("name"), context.actor)
        if "limits" in given:
            limits = checked_limits(body.limits, context.account.limits)
            key, _ = api_keys.change_limits(session, key_id, limits, context.account.limits, context.actor, clear=True)
        if rules:
            key = _change_rules(session, key_id, rules, context.actor)
        if "paused" in given:
            change = api_keys.pause if body.paused else api_keys.resume
            key, event = change(session, key_id, context.actor)
        if "disabled" in given:
            key, event = api_keys.revoke(session, key_id, context.actor)
        if given.keys() - {"name"}:
            intent = record_intent(context, str(key_id), revoked="disabled" in given)
        former = _former_secrets(session, [key]).get(key_id, ())
        changed = shape(key, datetime.now(UTC), context.account.rotate_after_days, former)
    if intent is not None:
        # Even for a key that was revoked before: the first request may have failed before its receipt.
        changed["receipt"] = revoke_credentials(context, intent, event)
    return write_json(changed)


@blueprint.operation(
    "DELETE",
    "/v1/api-keys/<key_id>",
    access=MANAGE,
    summary="Delete an API key",
    response=ResponseSpec(200, "Whether the key was removed or revoked, and the receipt.", RemovedApiKeyView),
)
def delete_api_key(context: RequestContext, key_id: UUID) -> Response:
    """Revokes the key. A key that was never used is removed; a key that was used remains in the list as revoked."""
    with context.writing() as session:
        _, event = api_keys.revoke(session, key_id, context.actor)
        intent = record_intent(context, str(key_id))
    receipt = revoke_credentials(context, intent, event)
    with context.writing() as session:
        removed = api_keys.remove_if_unused(session, key_id)
        if removed:
            audit.record(session, context.actor, "api_key.removed", key_id)
    return write_json({"id": key_id, "outcome": "removed" if removed else "revoked", "receipt": receipt})


RULES = ("scopes", "allowed_addresses", "denied_addresses", "from_browsers", "not_before")


def _immutable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _change_rules(session: Session, key_id: UUID, changes: Mapping[str, Any], actor: Actor) -> ApiKey:
    try:
        return api_keys.change_rules(session, key_id, changes, actor)
    except WiderScopes as error:
        raise InvalidRequest([FieldError("scopes", str(error))]) from None


def _former_secrets(session: Session, keys: Sequence[ApiKey]) -> Mapping[UUID, Sequence[FormerSecret]]:
    """None before `account_0004`, which the columns of a key show."""
    return rotation.former_secrets(session, [key.id for key in keys if rotation.SINCE_COLUMN in key.columns])


def shape(
    key: ApiKey, now: datetime, rotate_after_days: int | None, former: Sequence[FormerSecret] = ()
) -> dict[str, Any]:
    """An API key as the API returns it. `former` are its former secrets, the latest first."""
    rules = KeyRules.of(key)
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "status": status(key, now),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "disabled_at": key.disabled_at,
        "last_used_at": key.last_used_at,
        "limits": key.limits and {limit.field: key.limits.get(limit.field) for limit in LIMIT_FIELDS},
        "scopes": rules.scopes,
        "allowed_addresses": rules.allowed_addresses,
        "denied_addresses": rules.denied_addresses,
        "from_browsers": rules.from_browsers,
        "browser_use_at": moment_in(key.columns, "browser_use_at"),
        "not_before": rules.not_before,
        "paused_at": moment_in(key.columns, "paused_at"),
        "secret_created_at": secret_created_at(key),
        "rotation_due": is_rotation_due(key, now, rotate_after_days),
        "former_secrets": [fields_of(secret, FormerSecretView.model_fields) for secret in former],
    }
