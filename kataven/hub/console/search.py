"""Search of operators: accounts by text, a request of one account, and a key of any account by its pasted secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import search
from kataven.account.errors import NotFound
from kataven.hub.console.lists import MAX_TEXT_LENGTH
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, render, see_other
from kataven.hub.pages.search import (
    Result,
    describe,
    explain_secret_in_url,
    has_usage,
    revoked_by,
    show_owner_of_secret,
)
from kataven.hub.secret_text import has_secret
from kataven.identity import token as tokens
from kataven.identity.errors import MalformedToken
from kataven.identity.token import is_account_name
from kataven.system import accounts
from kataven.usage import requests

blueprint = PageBlueprint("console-search", __name__)

HOME = "/console/search"
SHOWN, SHOWN_WHILE_TYPING = 20, 8


@blueprint.page(HOME, OPERATORS)
def show_operator_search(hub_request: HubRequest) -> AnyResponse:
    text, account = request.args.get("q", "").strip(), request.args.get("account", "").strip()
    if has_secret(text) or has_secret(account):
        return see_other(f"{HOME}?problem=secret")
    if request.args.get("problem") == "secret":
        return explain_secret_in_url(hub_request, "console/search.html")
    if account:
        results, problem = _request_of_account(hub_request, account, text)
        return render(
            "console/search.html", text=text, account=account, results=results, problems=problem, asked=not problem
        )
    results, more = _accounts(hub_request, text, SHOWN)
    return render("console/search.html", text=text, results=results, more=more, asked=bool(text))


@blueprint.form(HOME, OPERATORS, has_secret=True)
def find_key_of_any_account(hub_request: HubRequest) -> AnyResponse:
    """The prefix of the secret names the account."""

    def find(secret: str) -> Mapping[str, Any]:
        account = _account_of(secret)
        candidates = hub_request.services.issuer.candidates(secret)
        record = None if account is None else hub_request.services.directory.read(account)
        found, by = None, None
        if record is not None:
            with hub_request.services.registry.reading(record.tenant) as session:
                found = search.by_hash(session, candidates)
                by = revoked_by(session, found)
        keys_path = f"/console/accounts/{account}/keys"
        described = describe(found, secret, by, may_rotate=False, keys_path=keys_path, widget_keys_path=None)
        return {"secret": described, "secret_account": record}

    return show_owner_of_secret(hub_request, "console/search.html", find)


@blueprint.form(f"{HOME}/suggest", OPERATORS, while_typing=True)
def suggest_accounts(hub_request: HubRequest) -> AnyResponse:
    """The first results, for the dialog."""
    text = request.form.get("q", "").strip()
    if has_secret(text):
        return render("search_results.html", secret_in_text=True)
    results, more = _accounts(hub_request, text, SHOWN_WHILE_TYPING)
    return render("search_results.html", results=results, more=more, asked=bool(text), text=text)


def _accounts(hub_request: HubRequest, text: str, limit: int) -> tuple[Sequence[Result], bool]:
    if not text or "\x00" in text or len(text) > MAX_TEXT_LENGTH:
        return (), False
    with hub_request.services.directory.database.reading() as session:
        page = accounts.page(session, text, None, limit)
        return [
            Result("Account", row.account_name, f"/console/accounts/{row.account_id}", row.account_id, row.status)
            for row in page.rows
        ], page.has_next


def _request_of_account(
    hub_request: HubRequest, account: str, request_id: str
) -> tuple[Sequence[Result], dict[str, str]]:
    """A request in the log of one account, or the error by field."""
    record = hub_request.services.directory.read(account) if is_account_name(account) else None
    if record is None:
        return (), {"account": "No account has this ID"}
    usage = hub_request.services.usage
    if not request_id or "\x00" in request_id or usage is None or not has_usage(record.tenant):
        return (), {}
    with hub_request.services.registry.reading(record.tenant) as session:
        try:
            logged = requests.find(session, request_id, hub_request.services.usage_policy.log_hours)
        except NotFound:
            return (), {}
        detail = f"{logged.status} {logged.code} · {logged.name} · {logged.created_at:%Y-%m-%d %H:%M:%S} UTC"
        return [Result("Request", logged.route, f"/console/accounts/{account}", detail)], {}


def _account_of(secret: str) -> str | None:
    try:
        return tokens.parse(secret).account
    except MalformedToken:
        return None
