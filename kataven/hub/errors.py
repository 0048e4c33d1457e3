"""What goes wrong, as a page: the same table of statuses and words as the API's, and a way on."""

from __future__ import annotations

from flask import Flask, Response, g

from kataven.hub import sign_in_audit
from kataven.hub.gate import StaleForm, front
from kataven.hub.page import Visit, show
from kataven.hub.provider import ProviderUnavailable
from kataven.hub.sessions import SessionsUnavailable
from kataven.hub.sign_in_failure import SignInFailed
from kataven.hub.sign_in_reasons import OF_DISCOVERY, OF_ROLES
from kataven.identity.errors import Refused, VerifierUnavailable
from kataven.identity.grants import RoleGap, role_gap
from kataven.web import problems
from kataven.web.problems import Kind

_HEADINGS = {
    "not_found": "There is nothing here",
    "method_not_allowed": "There is nothing here",
    "forbidden": "This is not for you",
    "account_mismatch": "You have no role in this account",
    "account_suspended": "This account is suspended",
    "rate_limited": "Too fast",
    "unavailable": "Not right now",
    "schema_mismatch": "Not right now",
}
_DETAILS = {
    "not_found": "The address is wrong, or what was here is gone.",
    "method_not_allowed": "The address is wrong, or what was here is gone.",
    "account_mismatch": "Whoever manages the account can give you one. You may have a role in another account.",
    "account_suspended": "Its keys are refused too. Nothing in it is lost.",
    "rate_limited": "There were many requests from your address within a minute. Wait a moment and reload.",
    "schema_mismatch": "The account's database is being brought up to date. Try again in a minute.",
}


def install(app: Flask) -> None:
    """Answer every error of `app` with a page."""
    problems.install(app)
    app.extensions[problems.PAGE_EXTENSION] = _page
    app.register_error_handler(
        SessionsUnavailable, lambda _: problems.unavailable("Sessions can't be read right now. Reload in a moment.")
    )
    app.register_error_handler(ProviderUnavailable, _provider_unavailable)
    app.register_error_handler(
        StaleForm, lambda error: _page(Kind(403, "stale_form", "This form is out of date"), str(error))
    )
    app.register_error_handler(SignInFailed, _sign_in_failed)


def _sign_in_failed(error: SignInFailed) -> Response:
    sign_in_audit.refused(g.call, error)
    return _page(Kind(400, "sign_in_failed", "Not signed in"), str(error), error.advice, error.reason.value)


def _provider_unavailable(error: ProviderUnavailable) -> Response:
    page = _page(
        problems.KINDS["unavailable"],
        "The sign-in service can't be reached. Reload in a moment.",
        OF_DISCOVERY[error.problem],
        error.problem.value,
    )
    page.headers["Retry-After"] = str(problems.DEFAULT_RETRY_AFTER_SECONDS)
    return page


def _page(kind: Kind, detail: str, advice: str | None = None, reason: str | None = None) -> Response:
    visit: Visit = g.call
    visit.problem = kind.code
    if kind.code == "account_mismatch" and (gap := _role_gap(visit)) is not None:
        advice, reason = OF_ROLES[gap], gap.value
    return show(
        "problem.html",
        kind.status,
        heading=_HEADINGS.get(kind.code, kind.title),
        detail=_DETAILS.get(kind.code, detail),
        advice=advice,
        reason=reason,
        code=kind.code,
        request_id=visit.request_id,
    )


def _role_gap(visit: Visit) -> RoleGap | None:
    """Why the person has no role in the account that they signed in to."""
    if visit.session.person is None:
        return None
    try:
        claims = front().claims(visit.session.person)
    except (Refused, VerifierUnavailable):
        return None
    return role_gap(claims.all, front().role_claims)
