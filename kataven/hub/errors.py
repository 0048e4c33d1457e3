"""Error pages: the statuses and codes of the API's problem table, with texts and links for users."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote_plus

from flask import Flask, Response, g, request

from kataven.hub import late_forms, sign_in_audit
from kataven.hub.page_blueprint import HubRequest, is_path, page_of, render
from kataven.hub.provider import ProviderUnavailable
from kataven.hub.secret_text import has_secret
from kataven.hub.session_middleware import SAFE_METHODS, StaleForm, hub_services
from kataven.hub.sessions import SessionsUnavailable
from kataven.hub.sign_in_failure import SignInFailed
from kataven.hub.sign_in_reasons import OF_DISCOVERY, OF_ROLES
from kataven.identity.errors import Refused, VerifierUnavailable
from kataven.identity.grants import RoleGap, role_gap
from kataven.web import problems
from kataven.web.problems import ProblemType

_HEADINGS = {
    "not_found": "Page not found",
    "method_not_allowed": "Page not found",
    "forbidden": "You don't have access",
    "account_mismatch": "You have no role in this account",
    "account_suspended": "This account is suspended",
    "access_blocked": "Your access to this account is blocked",
    "rate_limited": "Too many requests",
    "unavailable": "Service temporarily unavailable",
    "schema_mismatch": "This account is being upgraded",
}
_DETAILS = {
    "not_found": "Check the address. The page may have been deleted.",
    "method_not_allowed": "Check the address. The page may have been deleted.",
    "account_mismatch": "Ask an owner or admin of the account to give you a role, or choose another account.",
    "access_blocked": "Ask an owner or admin of the account, or choose another account.",
    "account_suspended": "Its API keys and sign-ins are rejected. No data is deleted.",
    "schema_mismatch": "Its database is being upgraded. Try again in a minute.",
}

_TEMPORARY = frozenset({"rate_limited", "unavailable", "schema_mismatch"})
"""Errors that pass. The address budget is checked before the session is read, so the user may be unknown."""


def install(app: Flask) -> None:
    """Show a page for every error of `app`."""
    problems.install(app)
    app.extensions[problems.PAGE_EXTENSION] = _page
    app.register_error_handler(
        SessionsUnavailable, lambda _: problems.unavailable("We couldn't read your session. Try again in a moment.")
    )
    app.register_error_handler(ProviderUnavailable, _provider_unavailable)
    app.register_error_handler(
        StaleForm, lambda error: _page(ProblemType(403, late_forms.CODE, "This form has expired"), str(error), {})
    )
    app.register_error_handler(SignInFailed, _sign_in_failed)


def _sign_in_failed(error: SignInFailed) -> Response:
    sign_in_audit.failed(g.kataven, error)
    return _page(ProblemType(400, "sign_in_failed", "Sign-in failed"), str(error), {}, error.advice, error.reason.value)


def _provider_unavailable(error: ProviderUnavailable) -> Response:
    page = _page(
        problems.PROBLEM_TYPES["unavailable"],
        "The identity provider is unavailable. Try again in a moment.",
        {},
        OF_DISCOVERY[error.problem],
        error.problem.value,
    )
    page.headers["Retry-After"] = str(problems.DEFAULT_RETRY_AFTER_SECONDS)
    return page


def _page(
    kind: ProblemType, detail: str, headers: Mapping[str, str], advice: str | None = None, reason: str | None = None
) -> Response:
    hub_request: HubRequest = g.kataven
    hub_request.problem = kind.code
    if kind.code == "rate_limited":
        detail = _rate_limit_detail(headers.get("Retry-After"))
    if kind.code == "account_mismatch" and (gap := _role_gap(hub_request)) is not None:
        advice, reason = OF_ROLES[gap], gap.value
    return render(
        "problem.html",
        kind.status,
        heading=_HEADINGS.get(kind.code, kind.title),
        detail=_DETAILS.get(kind.code, detail),
        advice=advice,
        resend=late_forms.resendable_fields(hub_request) if kind.code == "rate_limited" else None,
        action=request.path,
        link=_next_link(hub_request, kind.code),
        reason=reason,
        code=kind.code,
        request_id=hub_request.request_id,
    )


def _rate_limit_detail(seconds: str | None) -> str:
    detail = "Your network address sent too many requests within a minute. Nothing was changed."
    return f"{detail} Try again in {seconds} {'second' if seconds == '1' else 'seconds'}." if seconds else detail


def _next_link(hub_request: HubRequest, code: str) -> tuple[str, str]:
    """The target and the text of the link on an error page."""
    if code in {"account_mismatch", "account_suspended", "access_blocked"}:
        return "/accounts", "Choose another account"
    if code in _TEMPORARY and request.method in SAFE_METHODS:
        with_secret = has_secret(unquote_plus(request.query_string.decode("latin-1")))
        here = request.path if with_secret else request.full_path.removesuffix("?")
        return here if is_path(here) else "/", "Reload"  # `//evil.example` would leave the Hub
    if code in _TEMPORARY or code == late_forms.CODE:
        return page_of(request.path), "Open the page again"
    return ("/", "Go to the overview") if hub_request.session.user is not None else ("/sign-in", "Sign in")


def _role_gap(hub_request: HubRequest) -> RoleGap | None:
    """Why the user has no role in the account that they signed in to, or None if it is unknown."""
    if hub_request.session.user is None:
        return None
    try:
        claims = hub_services().claims(hub_request.session.user)
    except (Refused, VerifierUnavailable):
        return None
    return role_gap(claims.all, hub_services().role_claims)
