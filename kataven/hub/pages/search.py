"""Search: keys, widget keys, agents, accounts, requests and receipts by text, and a key by its pasted secret.

A text that looks like a secret is accepted only in the body of a form, never in a URL: see `secret_text`. The secret is
hashed with the peppers and looked up in the account. It is not logged, stored or shown again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flask import request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.account import audit, search
from kataven.account.errors import NotFound
from kataven.account.key_status import KeyStatus, status
from kataven.account.models import ApiKey, WidgetKey
from kataven.account.search import Found, FoundSecret
from kataven.hub.formatting import RECEIPTS, pluralize
from kataven.hub.page_blueprint import MEMBERS, HubRequest, PageBlueprint, render, see_other
from kataven.hub.pages.requests import filters
from kataven.hub.secret_text import MAX_SECRET_LENGTH, has_secret, key_in
from kataven.hub.session_middleware import spend_session_budget
from kataven.hub.sign_in import accounts_of
from kataven.identity import token as tokens
from kataven.identity.errors import MalformedToken
from kataven.ratelimit.budget import AddressBudgetKind
from kataven.tenancy.directory import Tenant
from kataven.usage import requests

blueprint = PageBlueprint("search", __name__)

HOME = "/search"
MAX_TEXT_LENGTH = 200
PER_KIND, PER_KIND_WHILE_TYPING = 20, 5
USAGE_SINCE = "account_0006"
IN_URL = f"{HOME}?problem=secret"
"""The page that explains why a secret in a URL was refused."""


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that was found."""

    kind: str
    title: str
    path: str
    detail: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class SecretResult:
    """What is known about a pasted secret. Contains no part of it but the hint."""

    title: str
    path: str | None = None
    status: str = ""
    sentence: str = ""
    advice: str = ""
    rotate_path: str | None = None
    moment: datetime | None = None
    by: str | None = None


@blueprint.page(HOME, MEMBERS)
def show_search(hub_request: HubRequest) -> AnyResponse:
    text = request.args.get("q", "").strip()
    if has_secret(text):
        return see_other(IN_URL)  # a redirect, so that the browser's history does not keep the URL
    if request.args.get("problem") == "secret":
        return explain_secret_in_url(hub_request, "search.html")
    results, more = _results(hub_request, text, PER_KIND)
    return render("search.html", text=text, results=results, more=more, asked=bool(text))


@blueprint.form(HOME, MEMBERS, has_secret=True)
def find_secret(hub_request: HubRequest) -> AnyResponse:
    """Shows which key of this account a secret belongs to. For every other text, the same sentence at the same cost."""

    def find(secret: str) -> Mapping[str, Any]:
        candidates = hub_request.services.issuer.candidates(secret)
        with hub_request.reading() as session:
            found = search.by_hash(session, candidates)
            by = revoked_by(session, found)
        return {"secret": describe(found, secret, by, may_rotate=hub_request.may_manage)}

    return show_owner_of_secret(hub_request, "search.html", find)


@blueprint.form(f"{HOME}/suggest", MEMBERS, while_typing=True)
def suggest(hub_request: HubRequest) -> AnyResponse:
    """The first results, for the dialog. A POST, so that no unfinished text is in a URL."""
    text = request.form.get("q", "").strip()
    if has_secret(text):
        return render("search_results.html", secret_in_text=True)
    results, more = _results(hub_request, text, PER_KIND_WHILE_TYPING)
    return render("search_results.html", results=results, more=more, asked=bool(text), text=text)


def explain_secret_in_url(hub_request: HubRequest, template: str) -> AnyResponse:
    """The search page with the reason why a secret in its URL was not looked up."""
    hub_request.problem = "secret_in_url"
    return render(template, HTTPStatus.BAD_REQUEST, text="", refused=True)


def show_owner_of_secret(
    hub_request: HubRequest, template: str, find: Callable[[str], Mapping[str, Any]]
) -> AnyResponse:
    """The search page with the result for the pasted secret, or with the reason why it was not looked up.

    `find` returns the values for the template: `secret` is a SecretResult.
    """
    wait = spend_session_budget(hub_request, AddressBudgetKind.HUB_SECRETS)
    if wait is not None:
        problem = f"You looked up too many keys within a minute. Try again in {pluralize(wait, 'second')}"
        response = render(template, HTTPStatus.TOO_MANY_REQUESTS, text="", problems={"secret": problem})
        response.headers["Retry-After"] = str(wait)
        return response
    text = request.form.get("secret", "")
    if not text.strip() or len(text) > MAX_SECRET_LENGTH:
        problem = f"Paste one key, with at most {MAX_SECRET_LENGTH:,} characters" if text.strip() else "Paste a key"
        return render(template, HTTPStatus.BAD_REQUEST, text="", problems={"secret": problem})
    return render(template, text="", **find(key_in(text)))


def revoked_by(session: Session, found: FoundSecret | None) -> str | None:
    """The actor who revoked the API key that was found."""
    if found is None or not isinstance(found.key, ApiKey) or found.key.disabled_at is None:
        return None
    return audit.revoked_by(session, "api_key.revoked", {found.key.id: found.key.disabled_at}).get(str(found.key.id))


def describe(
    found: FoundSecret | None,
    secret: str,
    by: str | None,
    *,
    may_rotate: bool,
    keys_path: str = "/settings/api-keys",
    widget_keys_path: str | None = "/settings/widget-keys",
) -> SecretResult:
    """What the page shows about a secret. `by` is the actor who revoked its key."""
    if found is None:
        return SecretResult(
            "No key of this account has this secret" if _is_complete(secret) else "This is not a complete key",
            sentence=""
            if _is_complete(secret)
            else "A key consists of sk_live_, the account, and 49 letters and digits. Copy the whole key again.",
            advice="If you found it in a place where others can read it, treat it as exposed: revoke or rotate it "
            "where it was created.",
        )
    key = found.key
    if isinstance(key, WidgetKey):
        return SecretResult(
            key.name,
            None if widget_keys_path is None else f"{widget_keys_path}/{key.id}",
            "revoked" if key.disabled_at is not None else "active",
            "This is a widget key. Widget keys are public: every visitor of your web pages can read them.",
        )
    path, now = f"{keys_path}/{key.id}", datetime.now(UTC)
    of_key = status(key, now)
    is_over = of_key in (KeyStatus.REVOKED, KeyStatus.EXPIRED)
    advice = "Nothing accepts this secret any more." if is_over else ""
    if not is_over:
        advice = "If this secret was pasted in a chat, a ticket or a repository, rotate the key now."
    if found.rotated_at is not None and not is_over:
        accepted = found.ends_at is None or found.ends_at > now
        state = "is still accepted" if accepted else "is no longer accepted"
        return SecretResult(
            key.name,
            path,
            of_key,
            f"This is a former secret (…{found.hint}) of this key. It was replaced and {state}.",
            advice if accepted else "The current secret of the key is another one.",
            f"{path}/rotate" if may_rotate and accepted else None,
            found.rotated_at,
        )
    return SecretResult(
        key.name,
        path,
        of_key,
        f"This is {'a former' if found.rotated_at else 'the'} secret (…{found.hint}) of this key.",
        advice,
        f"{path}/rotate" if may_rotate and not is_over else None,
        key.disabled_at,
        by,
    )


def _is_complete(secret: str) -> bool:
    try:
        tokens.parse(secret)
    except MalformedToken:
        return False
    return True


def _results(hub_request: HubRequest, text: str, limit: int) -> tuple[Sequence[Result], bool]:
    """What matches the text, and whether there is more."""
    if not text or "\x00" in text or len(text) > MAX_TEXT_LENGTH:
        return (), False
    with hub_request.reading() as session:
        found = search.by_text(session, text, limit)
        results = [*_logged(hub_request, session, text), *_named(found)]
    lowered = text.lower()
    results += [
        Result("Account", record.name, "/accounts", record.account)
        for record in accounts_of(hub_request)
        if lowered in record.account or lowered in record.name.lower()
    ]
    return results, found.more


def _named(found: Found) -> Sequence[Result]:
    now = datetime.now(UTC)
    return [
        *(
            Result("API key", key.name, f"/settings/api-keys/{key.id}", f"…{key.hint}", status(key, now))
            for key in found.keys
        ),
        *(
            Result(
                "Widget key",
                key.name,
                f"/settings/widget-keys/{key.id}",
                f"…{key.hint}",
                "revoked" if key.disabled_at else "active",
            )
            for key in found.widget_keys
        ),
        *(Result("Agent", agent.name, f"/agents/{agent.id}", status=agent.status) for agent in found.agents),
    ]


def _logged(hub_request: HubRequest, session: Session, text: str) -> Sequence[Result]:
    """The request and the receipt with this id. Only owners and admins see them."""
    results: list[Result] = []
    if not hub_request.may_manage:
        return results
    usage = hub_request.services.usage
    if usage is not None and has_usage(hub_request.account.tenant):
        try:
            logged = requests.find(session, text, hub_request.services.usage_policy.log_hours)
        except NotFound:
            pass
        else:
            results.append(
                Result("Request", logged.route, filters.by_request_id(text), f"{logged.status} {logged.code}".strip())
            )
    event_id = search.id_in(text)
    if event_id is not None:
        event = search.receipt(session, event_id)
        if event is not None:
            name = str(event.detail.get("name") or event.action)
            results.append(Result("Receipt", name, f"{RECEIPTS}{event_id}", event.action))
    return results


def has_usage(tenant: Tenant) -> bool:
    """Whether the account's database has the tables of usage, according to the directory."""
    return tenant.revision is None or tenant.revision >= USAGE_SINCE
