"""Rotation: the page that asks, the page with the new secret, and the end of the former secret."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from flask import request
from pydantic import BeforeValidator, Field
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys, rotation
from kataven.hub.formatting import describe_change, describe_revocation, with_receipt
from kataven.hub.page_blueprint import MANAGERS, HubRequest, new_form_id, read_form, render, see_other
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import KEY, blueprint
from kataven.hub.pages.api_keys.rows import row_of
from kataven.hub.pages.api_keys.secrets import secrets_of_key
from kataven.hub.session_middleware import hub_services, save_session
from kataven.identity.token import TokenKind
from kataven.web.receipts import record_intent, revoke_credentials
from kataven.web.schema import Input

ROTATE = f"{KEY}/rotate"
HOUR = 3600
GRACE_CHOICES = (
    ("86400", "24 hours"),
    ("0", "None: end it at the first use of the new secret"),
    ("3600", "1 hour"),
    ("259200", "3 days"),
    ("604800", "7 days"),
)
END_CHOICES = (("0", "At once"), ("3600", "In 1 hour at the latest"), ("86400", "In 24 hours at the latest"))

Seconds = Annotated[int, BeforeValidator(lambda given: int(given) if str(given).isdigit() else given)]


class RotateForm(Input):
    """How long the current secret is accepted after the first use of the new one."""

    grace: Annotated[Seconds, Field(ge=0, le=rotation.MAX_GRACE_SECONDS)]


class EndForm(Input):
    """When the former secret ends."""

    ends_in: Annotated[Seconds, Field(ge=0, le=rotation.MAX_GRACE_SECONDS)]


@blueprint.page(ROTATE, MANAGERS)
def show_rotate_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    return _form(hub_request, key_id)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str], key_id: UUID) -> AnyResponse:
    return _form(hub_request, key_id, submitted)


@blueprint.form(ROTATE, MANAGERS, _refill)
def rotate_api_key(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """Shows the new secret in the response, so that it is never stored. Resubmitting the form does not rotate again."""
    form, problems = read_form(RotateForm)
    if form is None:
        return _form(hub_request, key_id, request.form, problems)
    state = list_state.requested()
    if not hub_services().sessions.use_form(request.form.get("form_id", "")):
        return render("api_keys/rotated_before.html", HTTPStatus.CONFLICT, key_path=state.key(key_id))
    issued, intent = hub_request.services.issuer.issue(TokenKind.API_KEY, hub_request.account.account), None
    with hub_request.writing() as session:
        rotated = rotation.rotate(session, key_id, issued, form.grace, hub_request.actor)
        key = row_of(rotated.key, hub_request.account.rotate_after_days)
        secrets = secrets_of_key(session, key_id)
        if rotated.replaced:
            intent = record_intent(hub_request, str(key_id), revoked=False)
    receipt = None if intent is None else revoke_credentials(hub_request, intent, rotated.event_id)
    return render(
        "api_keys/rotated.html",
        HTTPStatus.CREATED,
        key=key,
        text=issued.text,
        secrets=secrets,
        receipt=None if receipt is None else describe_revocation(receipt),
        api_url=hub_services().api_url,
        state=state,
    )


@blueprint.form(f"{KEY}/former-secret", MANAGERS)
def end_former_secret(hub_request: HubRequest, key_id: UUID) -> AnyResponse:
    """By the time the page reloads, every worker applies the end of the former secret."""
    form, _ = read_form(EndForm)
    seconds = 0 if form is None else form.ends_in
    with hub_request.writing() as session:
        ended = rotation.shorten(session, key_id, seconds, hub_request.actor)
        name = ended.key.name
        intent = record_intent(hub_request, str(key_id), revoked=False, secrets_below=ended.below)
    receipt = revoke_credentials(hub_request, intent, ended.event_id)
    if seconds:
        notice = f"Changed the end of the former secret of “{name}”: {describe_change(receipt)}."
    else:
        notice = f"Ended the former secret of “{name}”: {describe_revocation(receipt)}."
    save_session(hub_request, hub_request.session.with_(notice=with_receipt(notice, receipt)))
    return see_other(f"{list_state.requested().key(key_id)}#secrets")


def _form(
    hub_request: HubRequest,
    key_id: UUID,
    submitted: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
) -> AnyResponse:
    with hub_request.reading() as session:
        key = row_of(api_keys.read(session, key_id), hub_request.account.rotate_after_days)
        secrets = secrets_of_key(session, key_id, hub_request.account.tenant)
    return render(
        "api_keys/rotate.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        key=key,
        secrets=secrets,
        grace_choices=GRACE_CHOICES,
        submitted=submitted or {},
        problems=problems or {},
        state=list_state.requested(),
        form_id=(submitted or {}).get("form_id") or new_form_id(),
    )
