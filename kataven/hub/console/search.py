"""Search of operators: accounts by text, a request of one account, and a key of any account by its pasted secret."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from flask import request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import audit, search
from kataven.account.errors import NotFound
from kataven.account.models import ApiKey
from kataven.account.search import FoundSecret
from kataven.hub.console.lists import MAX_TEXT_LENGTH
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, render, see_other
from kataven.hub.pages.search import Result, describe, has_usage, too_many_lookups
from kataven.hub.secret_text import MAX_SECRET_LENGTH, has_secret, key_in
from kataven.hub.session_middleware import spend_session_budget
from kataven.identity import token as tokens
from kataven.identity.errors import MalformedToken
from kataven.identity.token import is_account_name
from kataven.ratelimit.budget import AddressBudgetKind
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
        hub_request.problem = "secret_in_url"
        return render("console/search.html", HTTPStatus.BAD_REQUEST, text="", refused=True)
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
    wait = spend_session_budget(hub_request, AddressBudgetKind.HUB_SECRETS)
    if wait is not None:
        return too_many_lookups("console/search.html", wait)
    text = request.form.get("secret", "")
    if not text.strip() or len(text) > MAX_SECRET_LENGTH:
        problem = f"Paste one key, with at most {MAX_SECRET_LENGTH:,} characters" if text.strip() else "Paste a key"
        return render("console/search.html", HTTPStatus.BAD_REQUEST, text="", problems={"secret": problem})
    secret = key_in(text)
    account = _account_of(secret)
    candidates = hub_request.services.issuer.candidates(secret)
    record = None if account is None else hub_request.services.directory.read(account)
    found, by = None, None
    if record is not None:
        with hub_request.services.registry.reading(record.tenant) as session:
            found = search.by_hash(session, candidates)
            by = _revoked_by(session, found)
    described = describe(
        found,
        secret,
        by,
        may_rotate=False,
        keys_path=f"/console/accounts/{account}/keys",
        widget_keys_path=None,
    )
    return render("console/search.html", text="", secret=described, secret_account=None if record is None else record)


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


def _revoked_by(session: Session, found: FoundSecret | None) -> str | None:
    if found is None or not isinstance(found.key, ApiKey) or found.key.disabled_at is None:
        return None
    return audit.revoked_by(session, "api_key.revoked", {found.key.id: found.key.disabled_at}).get(str(found.key.id))


def _account_of(secret: str) -> str | None:
    try:
        return tokens.parse(secret).account
    except MalformedToken:
        return None
