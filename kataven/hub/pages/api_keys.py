"""Settings → API keys: create, view, restrict, pause and revoke keys. A key's secret is shown once, on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from flask import request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys, audit, expiry
from kataven.account.api_keys import KeyRules
from kataven.account.audit import Actor
from kataven.account.errors import ExpiryExceedsPolicy
from kataven.account.expiry import Expiry
from kataven.account.key_status import moment_in, status
from kataven.account.models import ApiKey
from kataven.hub.edits import read_edit
from kataven.hub.formatting import describe_change, describe_revocation
from kataven.hub.key_rules_form import (
    ACCESS_CHOICES,
    LABELS,
    excludes,
    exclusion_note,
    read_rules,
    saved_fields,
    sent_fields,
    shown_fields,
)
from kataven.hub.page_blueprint import (
    MANAGERS,
    MEMBERS,
    HubRequest,
    PageBlueprint,
    new_form_id,
    read_form,
    render,
    see_other,
)
from kataven.hub.paging import list_query, page_links, range_label, requested_position
from kataven.hub.session_middleware import hub_services, save_session
from kataven.identity.token import TokenKind
from kataven.web.receipts import record_intent, revoke_credentials
from kataven.web.schema import Input, SingleLine

blueprint = PageBlueprint("api-keys", __name__, "API key")

HOME = "/settings/api-keys"
PAGE_SIZE = 50
EXPIRES_SOON = timedelta(days=14)
EXPIRY_LABELS = {
    Expiry.NEVER: "Never",
    Expiry.YEAR: "In 1 year",
    Expiry.QUARTER: "In 90 days",
    Expiry.MONTH: "In 30 days",
}


class NewKeyForm(Input):
    """The form that creates a key."""

    name: Annotated[str, SingleLine(200)]
    expiry: Expiry


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key in the list."""

    id: UUID
    name: str
    hint: str
    status: str
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    expires_at: datetime | None
    disabled_at: datetime | None
    limits: Mapping[str, int]
    rules: KeyRules
    browser_use_at: datetime | None
    """When a browser last sent the key, and it was rejected."""
    paused_at: datetime | None
    revoked_by: str | None = None
    """The user who revoked the key, from the audit log."""

    @property
    def expires_soon(self) -> bool:
        return self.status == "active" and self.expires_at is not None and self.expires_at - _now() < EXPIRES_SOON


@blueprint.page("/settings/api-keys", MEMBERS)
def show_api_keys(hub_request: HubRequest) -> AnyResponse:
    return _list(hub_request)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _list(hub_request, submitted)


@blueprint.form("/settings/api-keys", MANAGERS, _refill)
def create_api_key(hub_request: HubRequest) -> AnyResponse:
    """Shows the secret in the response, so that it is never stored. Resubmitting the form creates no second key."""
    form, problems = read_form(NewKeyForm)
    submitted, rule_problems = read_rules(hub_request.account.limits, hub_request.services.scopes)
    if form is None or submitted is None:
        return _list(hub_request, request.form, {**problems, **rule_problems})
    try:
        expires_at = expiry.expires_at(form.expiry, _now(), hub_request.account.max_key_expiry_days)
    except ExpiryExceedsPolicy:
        max_days = hub_request.account.max_key_expiry_days
        return _list(hub_request, request.form, {"expiry": f"Expiry must be {max_days} days or less"})
    if not hub_services().sessions.use_form(request.form.get("form_id", "")):
        return render("api_key_shown.html", HTTPStatus.CONFLICT)
    issued = hub_request.services.issuer.issue(TokenKind.API_KEY, hub_request.account.account)
    with hub_request.writing() as session:
        created = api_keys.issue(
            session, form.name, issued, expires_at, hub_request.actor, submitted.rules, submitted.limits
        )
        key = _row(created)
    return render(
        "api_key_created.html",
        HTTPStatus.CREATED,
        key=key,
        text=issued.text,
        api_url=hub_services().api_url,
        excluded_address=hub_request.address if excludes(key.rules, hub_request.address) else None,
    )


@blueprint.page(f"{HOME}/<key_id>", MEMBERS)
def show_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _key_page(hub_request, key_id)


def _refill_key(hub_request: HubRequest, submitted: Mapping[str, str], key_id: UUID) -> AnyResponse:
    return _key_page(hub_request, key_id, submitted)


@blueprint.form(f"{HOME}/<key_id>", MANAGERS, _refill_key)
def change_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """Changes the conditions and limits. By the time the page reloads, every worker applies them."""
    submitted, problems = read_rules(hub_request.account.limits, None)
    if submitted is None:
        return _key_page(hub_request, key_id, request.form, problems)
    edit = read_edit(sent_fields(submitted), LABELS)
    account, actor = hub_request.account.limits, hub_request.actor
    with hub_request.writing() as session:
        key = api_keys.lock(session, key_id)
        edit.check(saved_fields(key))
        api_keys.change_rules(session, key_id, submitted.conditions, actor)
        api_keys.change_limits(session, key_id, submitted.limits, account, actor, clear=True)
        name = key.name
        intent = record_intent(hub_request, str(key_id), revoked=False)
    notice = f"Saved “{name}”: {describe_change(revoke_credentials(hub_request, intent, None))}."
    if excludes(submitted.form, hub_request.address):
        notice += exclusion_note(hub_request.address)
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(f"{HOME}/{key_id}")


@blueprint.form(f"{HOME}/<key_id>/pause", MANAGERS)
def pause_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """By the time the page reloads, no worker accepts the key."""
    return _pause(hub_request, key_id, api_keys.pause, "Paused")


@blueprint.form(f"{HOME}/<key_id>/resume", MANAGERS)
def resume_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _pause(hub_request, key_id, api_keys.resume, "Resumed")


@blueprint.form("/settings/api-keys/<key_id>/revoke", MANAGERS)
def revoke_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """Shows the list with the receipt. By then, no worker accepts the key."""
    with hub_request.writing() as session:
        key, event = api_keys.revoke(session, key_id, hub_request.actor)
        name, hint = key.name, key.hint
        intent = record_intent(hub_request, str(key_id))
    receipt = revoke_credentials(hub_request, intent, event)
    save_session(
        hub_request, hub_request.session.with_(notice=f"Revoked “{name}” (…{hint}): {describe_revocation(receipt)}.")
    )
    return see_other(f"/settings/api-keys{list_query()}#key-{key_id}")


def _pause(
    hub_request: HubRequest, key_id: UUID, change: Callable[[Session, UUID, Actor], ApiKey], done: str
) -> AnyResponse:
    with hub_request.writing() as session:
        key = change(session, key_id, hub_request.actor)
        name, hint = key.name, key.hint
        intent = record_intent(hub_request, str(key_id), revoked=False)
    describe = describe_revocation if change is api_keys.pause else describe_change
    receipt = describe(revoke_credentials(hub_request, intent, None))
    save_session(hub_request, hub_request.session.with_(notice=f"{done} “{name}” (…{hint}): {receipt}."))
    return see_other(f"{HOME}/{key_id}")


def _key_page(
    hub_request: HubRequest,
    key_id: UUID,
    submitted: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
) -> AnyResponse:
    with hub_request.reading() as session:
        key = api_keys.read(session, key_id)
        revoked_at = {} if key.disabled_at is None else {key.id: key.disabled_at}
        revoked_by = audit.revoked_by(session, "api_key.revoked", revoked_at).get(str(key.id))
        row, shown = _row(key, revoked_by), shown_fields(key)
    return render(
        "api_key.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        key=row,
        submitted=submitted or shown,
        problems=problems or {},
    )


def _list(
    hub_request: HubRequest, submitted: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    with hub_request.reading() as session:
        page = api_keys.listing(session, PAGE_SIZE, requested_position())
        revoked_at = {key.id: key.disabled_at for key in page.rows if key.disabled_at is not None}
        revoked_by = audit.revoked_by(session, "api_key.revoked", revoked_at)
        rows = [_row(key, revoked_by.get(str(key.id))) for key in page.rows]
        position = range_label(session, ApiKey, page)
    return render(
        "api_keys.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        keys=rows,
        links=page_links(page),
        range_label=position,
        list_query=list_query(),
        choices=[(choice, EXPIRY_LABELS[choice]) for choice in expiry.allowed(hub_request.account.max_key_expiry_days)],
        access_choices=ACCESS_CHOICES,
        scopes=hub_request.services.scopes.by_noun(),
        policy_days=hub_request.account.max_key_expiry_days,
        submitted=submitted or {},
        problems=problems or {},
        form_id=(submitted or {}).get("form_id") or new_form_id(),
    )


def _row(key: ApiKey, revoked_by: str | None = None) -> KeyRow:
    return KeyRow(
        key.id,
        key.name,
        key.hint,
        status(key, _now()),
        key.created_at,
        key.created_by,
        key.last_used_at,
        key.expires_at,
        key.disabled_at,
        key.limits or {},
        KeyRules.of(key),
        moment_in(key.columns, "browser_use_at"),
        moment_in(key.columns, "paused_at"),
        revoked_by,
    )


def _now() -> datetime:
    return datetime.now(UTC)
