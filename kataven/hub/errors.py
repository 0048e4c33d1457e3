"""What goes wrong, as a page: the same table of statuses and words as the API's, and a way on."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, Response, g, request

from kataven.hub import late_forms, sign_in_audit
from kataven.hub.page_blueprint import HubRequest, is_path, page_of, render
from kataven.hub.provider import ProviderUnavailable
from kataven.hub.session_middleware import SAFE_METHODS, StaleForm, hub_services
from kataven.hub.sessions import SessionsUnavailable
from kataven.hub.sign_in_failure import SignInFailed
from kataven.hub.sign_in_reasons import OF_DISCOVERY, OF_ROLES
from kataven.identity.errors import Refused, VerifierUnavailable
from kataven.identity.grants import RoleGap, role_gap
from kataven.web import problems
from kataven.web.problems import ProblemType

_HEADINGS = {
    "not_found": "There is nothing here",
    "method_not_allowed": "There is nothing here",
    "forbidden": "This is not for you",
    "account_mismatch": "You have no role in this account",
    "account_suspended": "This account is suspended",
    "rate_limited": "Too many requests",
    "unavailable": "Not right now",
    "schema_mismatch": "Not right now",
}
_DETAILS = {
    "not_found": "The address is wrong, or what was here is gone.",
    "method_not_allowed": "The address is wrong, or what was here is gone.",
    "account_mismatch": "Whoever manages the account can give you one. You may have a role in another account.",
    "account_suspended": "Its keys are refused too. Nothing in it is lost.",
    "schema_mismatch": "The account's database is being brought up to date. Try again in a minute.",
}

_PASSING = frozenset({"rate_limited", "unavailable", "schema_mismatch"})
"""What is over soon. The budget of an address is spent before the session is read, so nothing is known of that then."""


def install(app: Flask) -> None:
    """Answer every error of `app` with a page."""
    problems.install(app)
    app.extensions[problems.PAGE_EXTENSION] = _page
    app.register_error_handler(
        SessionsUnavailable, lambda _: problems.unavailable("Sessions can't be read right now. Reload in a moment.")
    )
    app.register_error_handler(ProviderUnavailable, _provider_unavailable)
    app.register_error_handler(
        StaleForm, lambda error: _page(ProblemType(403, late_forms.CODE, "This form is out of date"), str(error), {})
    )
    app.register_error_handler(SignInFailed, _sign_in_failed)


def _sign_in_failed(error: SignInFailed) -> Response:
    sign_in_audit.refused(g.context, error)
    return _page(ProblemType(400, "sign_in_failed", "Not signed in"), str(error), {}, error.advice, error.reason.value)


def _provider_unavailable(error: ProviderUnavailable) -> Response:
    page = _page(
        problems.KINDS["unavailable"],
        "The sign-in service can't be reached. Reload in a moment.",
        {},
        OF_DISCOVERY[error.problem],
        error.problem.value,
    )
    page.headers["Retry-After"] = str(problems.DEFAULT_RETRY_AFTER_SECONDS)
    return page


def _page(
    kind: ProblemType, detail: str, headers: Mapping[str, str], advice: str | None = None, reason: str | None = None
) -> Response:
    hub_request: HubRequest = g.context
    hub_request.problem = kind.code
    if kind.code == "rate_limited":
        detail = _too_many(headers.get("Retry-After"))
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
        way_on=_way_on(hub_request, kind.code),
        reason=reason,
        code=kind.code,
        request_id=hub_request.request_id,
    )


def _too_many(seconds: str | None) -> str:
    said = "There were too many requests from your network address within a minute, so nothing was done."
    return f"{said} Try again in {seconds} {'second' if seconds == '1' else 'seconds'}." if seconds else said


def _way_on(hub_request: HubRequest, code: str) -> tuple[str, str]:
    """Where to go from the page of a problem, and what the link says."""
    if code in {"account_mismatch", "account_suspended"}:
        return "/accounts", "Choose another account"
    if code in _PASSING and request.method in SAFE_METHODS:
        here = request.full_path.removesuffix("?")
        return here if is_path(here) else "/", "Reload"  # `//evil.example` would lead elsewhere
    if code in _PASSING or code == late_forms.CODE:
        return page_of(request.path), "Open the page again"
    return ("/", "To the overview") if hub_request.session.user is not None else ("/sign-in", "Sign in")


def _role_gap(hub_request: HubRequest) -> RoleGap | None:
    """Why the person has no role in the account that they signed in to."""
    if hub_request.session.user is None:
        return None
    try:
        claims = hub_services().claims(hub_request.session.user)
    except (Refused, VerifierUnavailable):
        return None
    return role_gap(claims.all, hub_services().role_claims)
