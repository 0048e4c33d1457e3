"""The form that creates a key."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import api_keys, expiry
from kataven.account.errors import ExpiryExceedsPolicy
from kataven.account.expiry import Expiry
from kataven.hub.key_rules_form import ACCESS_CHOICES, excludes, read_rules
from kataven.hub.page_blueprint import MANAGERS, HubRequest, new_form_id, read_form, render
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import HOME, blueprint
from kataven.hub.pages.api_keys.rows import now, row_of
from kataven.hub.session_middleware import hub_services
from kataven.identity.token import TokenKind
from kataven.web.inputs.api_keys import KeyName
from kataven.web.schema import Input

NEW = f"{HOME}/new"
EXPIRY_LABELS = {
    Expiry.NEVER: "Never",
    Expiry.YEAR: "In 1 year",
    Expiry.QUARTER: "In 90 days",
    Expiry.MONTH: "In 30 days",
}


class NewKeyForm(Input):
    """The name and the expiry. `key_rules_form` reads the other fields."""

    name: KeyName
    expiry: Expiry


@blueprint.page(NEW, MANAGERS)
def show_new_api_key(hub_request: HubRequest) -> AnyResponse:
    return _form(hub_request)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _form(hub_request, submitted)


@blueprint.form(NEW, MANAGERS, _refill)
def create_api_key(hub_request: HubRequest) -> AnyResponse:
    """Shows the secret in the response, so that it is never stored. Resubmitting the form creates no second key."""
    account, state = hub_request.account, list_state.requested()
    form, problems = read_form(NewKeyForm)
    submitted, rule_problems = read_rules(account.limits, hub_request.services.scopes)
    if form is None or submitted is None:
        return _form(hub_request, request.form, {**problems, **rule_problems})
    try:
        expires_at = expiry.expires_at(form.expiry, now(), account.max_key_expiry_days)
    except ExpiryExceedsPolicy:
        problem = f"Expiry must be {account.max_key_expiry_days} days or less"
        return _form(hub_request, request.form, {"expiry": problem})
    if not hub_services().sessions.use_form(request.form.get("form_id", "")):
        return render("api_key_shown.html", HTTPStatus.CONFLICT, list_path=state.path)
    issued = hub_request.services.issuer.issue(TokenKind.API_KEY, account.account)
    with hub_request.writing() as session:
        created = api_keys.issue(
            session, form.name, issued, expires_at, hub_request.actor, submitted.rules, submitted.limits
        )
        key = row_of(created, account.rotate_after_days)
    return render(
        "api_key_created.html",
        HTTPStatus.CREATED,
        key=key,
        text=issued.text,
        api_url=hub_services().api_url,
        list_path=list_state.ListState().row(key.id),
        excluded_address=hub_request.address if excludes(key.rules, hub_request.address) else None,
    )


def _form(
    hub_request: HubRequest, submitted: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    max_days = hub_request.account.max_key_expiry_days
    return render(
        "api_keys/new.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        state=list_state.requested(),
        choices=[(choice, EXPIRY_LABELS[choice]) for choice in expiry.allowed(max_days)],
        access_choices=ACCESS_CHOICES,
        scopes=hub_request.services.scopes.by_noun(),
        policy_days=max_days,
        submitted=submitted or {},
        problems=problems or {},
        form_id=(submitted or {}).get("form_id") or new_form_id(),
    )
