"""Sign-in from an account name or an e-mail address, and sign-out: OpenID Connect, authorization code with PKCE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlencode

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub import sign_in_audit
from kataven.hub.anonymous import ANONYMOUS_SECONDS
from kataven.hub.page_blueprint import (
    ANONYMOUS,
    SIGNED_IN,
    HubRequest,
    PageBlueprint,
    is_path,
    redirect_to_issuer,
    render,
    see_other,
)
from kataven.hub.session_middleware import CLEAR_STORED_PAGES, StaleForm, hub_services, save_session
from kataven.hub.sessions import SignedInUser, SignIn, new_csrf
from kataven.hub.sign_in_failure import SignInFailed
from kataven.hub.sign_in_reasons import Reason, checklist
from kataven.hub.used_accounts import forget, remember, used_accounts
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.identity.grants import organisations, role_gap, strongest_role
from kataven.identity.token import is_account_name
from kataven.system import accounts
from kataven.system.directory import AccountRecord
from kataven.system.email_domains import matching, parse_domain
from kataven.system.errors import SystemDatabaseUnavailable

blueprint = PageBlueprint("sign-in", __name__)

HOME = "/"
CONSOLE = "/console"
MAX_EMAIL_LENGTH = 254
MAX_NEXT_BYTES = 1_024
"""The path is stored in a cookie during the sign-in, and browsers limit cookies to 4 KiB."""


@blueprint.page("/sign-in", ANONYMOUS)
def show_sign_in(hub_request: HubRequest) -> AnyResponse:
    """Ask for the account. The issuer asks for everything else."""
    if hub_request.session.user is not None:
        return see_other(_safe_next_path(request.args.get("next")))
    save_session(hub_request, hub_request.session)
    ended_session = hub_request.session.ended_session
    return _form((ended_session and ended_session.account) or "", None, _safe_next_path(request.args.get("next")))


def _refill(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    """The form of another tab. If the user has signed in since, redirect to the next page."""
    account, next_path = submitted.get("account", "").strip().lower(), _safe_next_path(submitted.get("next"))
    if hub_request.session.user is not None:
        return see_other(next_path if account in {"", hub_request.session.account} else "/accounts")
    save_session(hub_request, hub_request.session)
    return _form(account, None, next_path)


@blueprint.form("/sign-in", ANONYMOUS, _refill)
def start_sign_in(hub_request: HubRequest) -> AnyResponse:
    if hub_request.session.user is not None:
        return _refill(hub_request, request.form)
    next_path = _safe_next_path(request.form.get("next"))
    if "forget" in request.form:
        response = see_other(f"/sign-in?{urlencode({'next': next_path})}" if next_path != HOME else "/sign-in")
        forget(response, request.form["forget"])
        return response
    account = request.form.get("account", "").strip().lower()
    if "@" in account:
        return _start_with_email(hub_request, account, next_path)
    problem = _problem(hub_request, account)
    if problem is not None:
        return _form(account, problem, next_path)
    url, sign_in = hub_services().provider.start(account, next_path, _org_id(hub_request, account))
    return _redirect(hub_request, url, sign_in)


def _start_with_email(hub_request: HubRequest, email: str, next_path: str) -> AnyResponse:
    """Start a sign-in whose account is chosen afterwards.

    The response is the same for every domain: it must not tell unauthenticated clients which domains are known.
    """
    name, _, text = email.rpartition("@")
    domain = parse_domain(text)
    if not name or domain is None or len(email) > MAX_EMAIL_LENGTH or not email.isprintable() or " " in email:
        return _form(email, "Enter an e-mail address such as ada@acme.com, or an account", next_path)
    url, sign_in = hub_services().provider.start("", next_path, login_hint=email)
    return _redirect(hub_request, url, replace(sign_in, email_domain=domain))


def _redirect(hub_request: HubRequest, url: str, sign_in: SignIn) -> AnyResponse:
    save_session(
        hub_request, hub_request.session.with_sign_in(replace(sign_in, began_at=hub_services().sessions.now()))
    )
    return redirect_to_issuer(url, "Redirecting to sign-in")


@blueprint.page("/auth/callback", ANONYMOUS)
def finish_sign_in(hub_request: HubRequest) -> AnyResponse:
    """The redirect URI of the issuer."""
    try:
        sign_in = _consume_sign_in(hub_request)
    except SignInFailed:
        if hub_request.session.user is not None:  # the user went back in the browser
            return see_other(HOME)
        raise
    user = hub_services().provider.finish(sign_in, request.args.to_dict())
    if _is_signed_in(hub_request, user, sign_in):  # in another tab: its forms must remain valid
        return see_other(sign_in.next_path)
    account = sign_in.account or _account_of(hub_request, user, sign_in.email_domain)
    belongs = account is not None and _has_role(hub_request, user, account)
    no_gap = belongs or account is None
    gap = None if no_gap else role_gap(hub_services().claims(user).all, hub_services().role_claims)
    recorded_in = sign_in_audit.signed_in(hub_request, user, account, gap)
    session = hub_services().sessions.rotate(hub_request.session)
    save_session(hub_request, session.with_(user=user, account=account, recorded_in=recorded_in))
    if user.sid is not None:
        hub_services().sessions.remember_subject(user.sid, user.subject)
    if account is None:
        return see_other("/accounts")
    response = see_other(CONSOLE if account == OPERATORS_ACCOUNT and sign_in.next_path == HOME else sign_in.next_path)
    if belongs:
        remember(response, account)
    return response


@blueprint.page("/accounts", SIGNED_IN)
def choose_account(hub_request: HubRequest) -> AnyResponse:
    """List the accounts in which the user has a role."""
    assert hub_request.session.user is not None  # noqa: S101  the session middleware requires a user
    claims = hub_services().claims(hub_request.session.user)
    found = accounts_of(hub_request)
    return render("accounts.html", accounts=found, operator=hub_services().is_operator(claims))


@blueprint.form("/accounts", SIGNED_IN)
def switch_account(hub_request: HubRequest) -> AnyResponse:
    selected = request.form.get("account", "")
    if not any(record.account == selected for record in accounts_of(hub_request)):
        return see_other("/accounts")
    # Forms in other windows belong to the previous account and must not be applied to this one: they become stale.
    save_session(hub_request, hub_request.session.with_(account=selected, csrf=new_csrf()))
    response = see_other(HOME)
    response.headers.add(*CLEAR_STORED_PAGES)  # "back" must not show pages of the previous account
    return response


def _refill_sign_out(hub_request: HubRequest, _: Mapping[str, str]) -> AnyResponse:
    if hub_request.session.user is None:
        return see_other("/signed-out")
    raise StaleForm("You are still signed in. This page belongs to an earlier session. Reload it, then sign out.")


@blueprint.form("/sign-out", ANONYMOUS, _refill_sign_out)
def sign_out(hub_request: HubRequest) -> AnyResponse:
    """End the session here, then at the issuer."""
    ended = hub_request.session
    hub_services().sessions.end(ended)
    hub_request.session, hub_request.cookie = hub_services().sessions.new(), ""
    if ended.user is None:
        return see_other("/signed-out")
    sign_in_audit.signed_out(hub_request, ended.user, ended.recorded_in)
    next_url = hub_services().provider.sign_out_url(f"{hub_services().url}/signed-out") or "/signed-out"
    # A page in between, even without a redirect to the issuer: browsers store the page that the user leaves after they
    # have processed the headers of the next one.
    response = redirect_to_issuer(next_url, "Redirecting to sign-out")
    response.headers.add(*CLEAR_STORED_PAGES)
    return response


@blueprint.page("/signed-out", ANONYMOUS)
def show_signed_out(hub_request: HubRequest) -> AnyResponse:
    response = render("signed_out.html")
    response.headers.add(*CLEAR_STORED_PAGES)  # again, for the page on which the user signed out
    return response


@blueprint.page("/help/sign-in", ANONYMOUS)
def show_sign_in_help(hub_request: HubRequest) -> AnyResponse:
    """Troubleshooting for sign-in. Every page of a failed sign-in links here."""
    return render("sign_in_help.html", checklist=checklist())


def _consume_sign_in(hub_request: HubRequest) -> SignIn:
    """Remove and return the pending sign-in that this callback's state names: state, nonce and verifier are valid for
    one callback only, even if it fails. Redis decides which of several callbacks is the first, so a copy of an old
    cookie can't be replayed. The state is stored for as long as that copy is valid.

    Raises SignInFailed. A response with another state does not consume a sign-in: this browser did not start it.
    """
    sign_in = hub_request.session.pending_sign_in(request.args.get("state", ""), hub_services().sessions.now())
    if sign_in is None:
        raise SignInFailed(Reason.STATE if hub_request.session.sign_ins else Reason.NOT_BEGUN)
    save_session(hub_request, hub_request.session.without_sign_in(sign_in))
    if not hub_services().sessions.start_cooldown(f"sign-in:{sign_in.state}", ANONYMOUS_SECONDS):
        raise SignInFailed(Reason.NOT_BEGUN)
    return sign_in


def _is_signed_in(hub_request: HubRequest, user: SignedInUser, sign_in: SignIn) -> bool:
    current = hub_request.session.user
    same_account = sign_in.account in {"", hub_request.session.account}
    return current is not None and current.subject == user.subject and same_account


def _account_of(hub_request: HubRequest, user: SignedInUser, domain: str) -> str | None:
    """The account in which a user who entered an e-mail address starts: the only one that has the domain, or else the
    only one. None if the user has to choose."""
    claims = hub_services().claims(user)
    org_ids = organisations(claims.all, hub_services().role_claims)
    try:
        with hub_request.services.directory.database.reading() as session:
            names = accounts.of_organisations(session, org_ids)
            preferred = matching(session, names, domain)
    except SystemDatabaseUnavailable:
        return None
    found = preferred if len(preferred) == 1 else names
    if not names and hub_services().is_operator(claims):
        return OPERATORS_ACCOUNT
    return found[0] if len(found) == 1 else None


def _has_role(hub_request: HubRequest, user: SignedInUser, account: str) -> bool:
    """Whether the user has a role in the account. Its audit log then records the sign-in."""
    claims = hub_services().claims(user)
    if account == OPERATORS_ACCOUNT:
        return hub_services().is_operator(claims)
    record = hub_request.services.directory.find(account)
    if record is None or not record.open or record.zitadel_org_id is None:
        return False
    return strongest_role(claims.all, record.zitadel_org_id, hub_services().role_claims) is not None


def _org_id(hub_request: HubRequest, account: str) -> str | None:
    if account == OPERATORS_ACCOUNT:
        return hub_services().operators_org_id
    record = hub_request.services.directory.find(account)
    return None if record is None else record.zitadel_org_id


def _form(account: str, problem: str | None, next_path: str) -> AnyResponse:
    status = HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST
    kept = next_path.startswith("/sent/")
    revoked = request.args.get("ended") == "revoked"
    return render(
        "sign_in.html",
        status,
        account=account,
        problem=problem,
        next_path=next_path,
        ended=kept or "ended" in request.args,
        revoked=revoked,
        kept=kept,
        used=used_accounts(),
        operators_account=OPERATORS_ACCOUNT,
    )


def _problem(hub_request: HubRequest, account: str) -> str | None:
    if not account:
        return "Enter an account"
    if not is_account_name(account):
        return "Account must contain only lowercase letters, digits, - and _, and start with a letter or digit"
    if account != OPERATORS_ACCOUNT and hub_request.services.directory.find(account) is None:
        return (
            "Account not found. Enter the part of your API keys after “sk_live_”, such as acme, or your e-mail address"
        )
    return None


def _safe_next_path(path: str | None) -> str:
    is_safe = path is not None and is_path(path) and len(path.encode()) <= MAX_NEXT_BYTES
    return path if path is not None and is_safe else HOME


def accounts_of(hub_request: HubRequest) -> list[AccountRecord]:
    """The accounts in which the user has a role."""
    user = hub_request.session.user
    assert user is not None  # noqa: S101  as above
    org_ids = organisations(hub_services().claims(user).all, hub_services().role_claims)
    with hub_request.services.directory.database.reading() as session:
        names = accounts.of_organisations(session, org_ids)
    return [record for name in names if (record := hub_request.services.directory.find(name)) is not None]
