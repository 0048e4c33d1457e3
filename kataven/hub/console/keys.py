"""The API keys of an account, for operators: search, create and revoke. Uses the same operations as `kataven keys`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from uuid import UUID

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import expiry
from kataven.account.errors import ExpiryExceedsPolicy, NotFound
from kataven.account.key_listing import EXPIRES_SOON
from kataven.account.key_status import KeyStatus
from kataven.account.paging import Page
from kataven.hub.console.lists import searched
from kataven.hub.formatting import describe_change, describe_revocation
from kataven.hub.key_rules_form import ACCESS_CHOICES, read_rules
from kataven.hub.page_blueprint import (
    OPERATORS,
    HubRequest,
    PageBlueprint,
    new_form_id,
    read_form,
    render,
    see_other,
)
from kataven.hub.pages.api_keys.create import EXPIRY_LABELS, NewKeyForm
from kataven.hub.paging import page_links, requested_position
from kataven.hub.session_middleware import hub_services, save_session
from kataven.identity.token import is_account_name
from kataven.operations import keys
from kataven.operations.keys import ChangedKey, KeyDetails
from kataven.operations.operator import Operator
from kataven.system.directory import AccountRecord
from kataven.system.errors import WrongStatus
from kataven.system.models import AccountStatus

blueprint = PageBlueprint("console-keys", __name__, "API key")

PAGE_SIZE = 50


@blueprint.page("/console/accounts/<account>/keys", OPERATORS)
def show_keys(hub_request: HubRequest, account: str) -> AnyResponse:
    return _list(hub_request, account)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str], account: str) -> AnyResponse:
    return _list(hub_request, account, submitted)


@blueprint.form("/console/accounts/<account>/keys", OPERATORS, _refill)
def create_key(hub_request: HubRequest, account: str) -> AnyResponse:
    """Shows the secret in the response, so that it is never stored. Resubmitting the form creates no second key."""
    form, problems = read_form(NewKeyForm)
    record = _find(hub_request, account)
    submitted, rule_problems = read_rules(record.limits, hub_request.services.scopes)
    if form is None or submitted is None:
        return _list(hub_request, account, request.form, {**problems, **rule_problems})
    if record.status != AccountStatus.ACTIVE:
        return _list(hub_request, account, request.form, {"name": f"{account} is {record.status}. Activate it first"})
    if form.expiry not in expiry.allowed(record.max_key_expiry_days):
        return _list(hub_request, account, request.form, _too_long(record))
    if not hub_services().sessions.use_form(request.form.get("form_id", "")):
        return render("api_key_shown.html", HTTPStatus.CONFLICT, list_path=_path(account))
    try:
        created = keys.create(
            _operator(hub_request),
            account,
            form.name,
            form.expiry,
            rules=submitted.rules,
            limits=submitted.limits,
        )
    except ExpiryExceedsPolicy:  # the policy was changed after the record was read
        return _list(hub_request, account, request.form, _too_long(record))
    except WrongStatus as error:
        return _list(hub_request, account, request.form, {"name": str(error)})
    return render(
        "api_key_created.html",
        HTTPStatus.CREATED,
        key=created.key,
        text=created.text,
        api_url=hub_services().api_url,
        list_path=_path(account),
        excluded_address=None,
    )


@blueprint.page("/console/accounts/<account>/keys/<key_id>", OPERATORS)
def show_key(hub_request: HubRequest, account: str, key_id: UUID) -> AnyResponse:
    """One key, and the button that revokes it."""
    record = _find(hub_request, account)
    operator = _operator(hub_request)
    key = keys.read(operator, account, key_id)
    return render("console/key.html", record=record, key=key, revoked_by=keys.revoked_by(operator, account, key))


@blueprint.form("/console/accounts/<account>/keys/<key_id>/revoke", OPERATORS)
def revoke_key(hub_request: HubRequest, account: str, key_id: UUID) -> AnyResponse:
    """Shows the key with the receipt. By then, no worker accepts the key."""
    _find(hub_request, account)
    done = keys.revoke(_operator(hub_request), account, key_id)
    receipt = describe_revocation(done.receipt.as_json())
    notice = f"Revoked “{done.key.name}” (…{done.key.hint}): {receipt}."
    if not done.is_logged:
        notice += " The operator audit log was unavailable. The audit log of the account has the event."
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(f"{_path(account)}/{key_id}")


@blueprint.form("/console/accounts/<account>/keys/<key_id>/pause", OPERATORS)
def pause_key(hub_request: HubRequest, account: str, key_id: UUID) -> AnyResponse:
    """Shows the key with the receipt. By then, no worker accepts the key."""
    _find(hub_request, account)
    done = keys.pause(_operator(hub_request), account, key_id)
    return _changed(hub_request, account, done, "Paused", describe_revocation(done.receipt.as_json()))


@blueprint.form("/console/accounts/<account>/keys/<key_id>/resume", OPERATORS)
def resume_key(hub_request: HubRequest, account: str, key_id: UUID) -> AnyResponse:
    _find(hub_request, account)
    done = keys.resume(_operator(hub_request), account, key_id)
    return _changed(hub_request, account, done, "Resumed", describe_change(done.receipt.as_json()))


def _changed(hub_request: HubRequest, account: str, done: ChangedKey, verb: str, receipt: str) -> AnyResponse:
    notice = f"{verb} “{done.key.name}” (…{done.key.hint}): {receipt}."
    if not done.is_logged:
        notice += " The operator audit log was unavailable. The audit log of the account has the event."
    save_session(hub_request, hub_request.session.with_(notice=notice))
    return see_other(f"{_path(account)}/{done.key.id}")


def _list(
    hub_request: HubRequest,
    account: str,
    submitted: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
) -> AnyResponse:
    record = _find(hub_request, account)
    search, status = searched(), request.args.get("status", "")
    only = KeyStatus(status) if status in set(KeyStatus) else None
    page: Page[KeyDetails] = Page((), None)
    if search.can_match:
        operator, start = _operator(hub_request), requested_position()
        page = keys.listing(operator, account, PAGE_SIZE, start, text=search.text, status=only)
    return render(
        "console/keys.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        record=record,
        keys=page.rows,
        soon=datetime.now(UTC) + EXPIRES_SOON,
        links=page_links(page),
        statuses=[("", "All"), *((status, status.replace("_", " ").capitalize()) for status in KeyStatus)],
        chosen={"q": search.submitted, "status": only or ""},
        choices=[(choice, EXPIRY_LABELS[choice]) for choice in expiry.allowed(record.max_key_expiry_days)],
        access_choices=ACCESS_CHOICES,
        scopes=hub_request.services.scopes.by_noun(),
        policy_days=record.max_key_expiry_days,
        submitted=submitted or {},
        problems=problems or {},
        form_id=(submitted or {}).get("form_id") or new_form_id(),
    )


def _too_long(record: AccountRecord) -> dict[str, str]:
    return {"expiry": f"Expiry must be {record.max_key_expiry_days} days or less"}


def _find(hub_request: HubRequest, account: str) -> AccountRecord:
    """The current record of the account. Raises NotFound."""
    record = hub_request.services.directory.read(account) if is_account_name(account) else None
    if record is None:
        raise NotFound("account")
    return record


def _operator(hub_request: HubRequest) -> Operator:
    return Operator(hub_request.operator_label, hub_request.services)


def _path(account: str) -> str:
    return f"/console/accounts/{account}/keys"
