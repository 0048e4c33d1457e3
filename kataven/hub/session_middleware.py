"""The steps of every request of a browser, in order: session, CSRF check, authentication, authorization.

The session does not store the user's roles. It contains the issuer's token, and each request verifies the token for its
account, as the API does. Withdrawn grants, suspended accounts and expired tokens therefore take effect within the same
30 s as at the API.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import NoReturn

from flask import Flask, Response, current_app, g, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub import devices, sign_in_audit
from kataven.hub.anonymous import ANONYMOUS_SECONDS, COOKIE_PREFIX
from kataven.hub.bounded_reads import BoundedReads
from kataven.hub.csrf_mask import unmask
from kataven.hub.page_blueprint import (
    HubRequest,
    PageAccess,
    access_of,
    current_hub_request,
    is_called_by_issuer,
    is_called_while_typing,
)
from kataven.hub.provider import Provider, RefreshFailed
from kataven.hub.runner import Runner
from kataven.hub.secret_text import has_key_in_url
from kataven.hub.server_watch import ServerWatch
from kataven.hub.sessions import Session, Sessions, SignedInUser, ended_session_of
from kataven.identity import grants
from kataven.identity.credential import OPERATORS_ACCOUNT, JwtCredential
from kataven.identity.errors import AccountMismatch, ExpiredCredential, InvalidCredential, SessionEnded
from kataven.identity.jwt import JwtVerifier, VerifiedClaims
from kataven.identity.people import Presented
from kataven.identity.principal import CredentialKind, Principal
from kataven.people.confirmations import Confirmations
from kataven.people.replays import Replays
from kataven.people.signed_events import SignedEvents
from kataven.ratelimit.budget import AddressBudgetKind
from kataven.ratelimit.limiter import LimitExceeded, Meter
from kataven.web import observe
from kataven.web.access import Forbidden
from kataven.web.request_context import AuthContext
from kataven.web.services import services

EXTENSION = "kataven.hub"
STALE_FORM_EXTENSION = "kataven.hub.late"
CLEAR_STORED_PAGES = ("Clear-Site-Data", '"cache"')
"""The header of a response after which "back" must show no page of the session. Browsers also remove the pages that
they keep in memory."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_FIELD = "csrf"
MAX_ANONYMOUS_FORM_BYTES = 8 * 1024
"""Limit for a form before sign-in. It contains an account name and the next page."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Only the Hub's own resources, no inline scripts or styles, no framing, no forms to other origins.

See `redirect_to_issuer` for the consequence for sign-in.
"""


@dataclass(frozen=True)
class HubServices:
    """The services of the Hub, in addition to the services that every app has."""

    url: str
    api_url: str
    measured_url: str
    """The URL at which this process measures the API."""
    sessions: Sessions
    provider: Provider
    access_tokens: JwtVerifier
    """Verifies access tokens where no account is involved."""
    events: SignedEvents
    """Verifies the logout tokens of the issuer."""
    replays: Replays
    api_meter: Meter
    """Reads the API usage of accounts."""
    operators_org_id: str | None
    role_claims: tuple[str, ...]
    runner: Runner
    """Runs migrations in a separate process."""
    confirmations: Confirmations | None = None
    """Limits how long tokens are accepted without the issuer's confirmation; None if that is not configured."""
    servers: ServerWatch = field(default_factory=ServerWatch)
    reads: BoundedReads = field(default_factory=BoundedReads)
    """Reads from accounts' databases for the console."""

    @property
    def secure(self) -> bool:
        return self.url.startswith("https://")

    @property
    def cookie_name(self) -> str:
        """`__Host-` (RFC 6265bis, section 4.1.3) limits the cookie to this host and to https."""
        return "__Host-kataven" if self.secure else "kataven-hub"

    def close(self) -> None:
        """Close its connections."""
        self.sessions.close()
        self.replays.close()
        self.api_meter.close()

    def claims(self, user: SignedInUser) -> VerifiedClaims:
        """The verified claims of the user's access token. Raises the errors of `JwtVerifier.claims`, and those of
        `Confirmations.require`."""
        claims = self.access_tokens.claims(user.access_token)
        if self.confirmations is not None:
            self.confirmations.require(user.access_token, claims)
        return claims

    def is_operator(self, claims: VerifiedClaims) -> bool:
        return self.operators_org_id is not None and grants.is_operator(
            claims.all, self.operators_org_id, self.role_claims
        )


class StaleForm(Forbidden):
    """The form does not belong to this session."""


class SignInRequired(Exception):
    """The page requires sign-in, or an account that the user has not selected yet. `path`: where to redirect."""

    def __init__(self, path: str = "/sign-in", ended: str | None = None) -> None:
        super().__init__(path)
        self.path = path
        self.ended = ended
        """Why the session ended, for the sign-in page: `revoked`, or None."""


StaleFormHandler = Callable[[HubRequest, StaleForm], AnyResponse]
"""Returns the response to a form that does not belong to this session, or raises the StaleForm."""


def install(app: Flask, hub_services: HubServices, handle_stale_form: StaleFormHandler) -> None:
    """Run these steps for every request of `app`."""
    app.extensions[EXTENSION] = hub_services
    app.extensions[STALE_FORM_EXTENSION] = handle_stale_form
    app.before_request(open_hub_request)
    app.before_request(refuse_key_in_url)
    app.before_request(check_form)
    app.before_request(authorize)
    app.after_request(finish)
    app.teardown_request(observe.close_context)


def hub_services() -> HubServices:
    """The services of the Hub that serves this request."""
    found: HubServices = current_app.extensions[EXTENSION]
    return found


def open_hub_request() -> None:
    """Assign a request id, check the budget of the client address, and read the session of the cookie."""
    context = observe.open_context(services(), request.environ)
    hub_request = HubRequest(context.services, context.request_id, context.address, context.started)
    g.kataven = hub_request
    if request.endpoint == "static" or is_called_by_issuer(current_app.view_functions.get(request.endpoint or "")):
        return
    if is_live_update() or is_called_while_typing(current_app.view_functions.get(request.endpoint or "")):
        # Counted per session, so that scripts do not use up the budget of an office behind one address.
        _read_session(hub_request)
        if hub_request.session.user is not None:
            _consume_budget(hub_request, hub_request.session.handle, AddressBudgetKind.HUB_TYPING)
            return
    try:
        _consume_budget(hub_request, hub_request.address, AddressBudgetKind.HUB)
    except LimitExceeded:
        if request.method not in SAFE_METHODS:
            _read_session(hub_request)  # so that the error page can offer to submit the form again
        raise
    _read_session(hub_request)


def is_live_update() -> bool:
    """Whether a script of an open page requests a part of it, as htmx does every few seconds.

    This is no use of the session: an open page alone does not keep a user signed in. Any client can send the header, so
    it grants nothing, and the list of sessions has the address.
    """
    return request.method == "GET" and request.headers.get("HX-Request") == "true"


def _consume_budget(hub_request: HubRequest, key: str, kind: AddressBudgetKind) -> None:
    decision = hub_request.services.limiter.addresses.spend(key, kind)
    if not decision.admitted:
        raise LimitExceeded(decision)


def spend_session_budget(hub_request: HubRequest, kind: AddressBudgetKind) -> int | None:
    """Count a request of this session. Returns the seconds to wait if the budget is exhausted, otherwise None."""
    return hub_request.services.limiter.addresses.spend(hub_request.session.handle, kind).retry_after_seconds


def refuse_key_in_url() -> AnyResponse | None:
    """Redirect to the page that explains why a key must not be in a URL, without processing the key.

    A redirect, so that the browser's history does not keep the URL.
    """
    if request.method not in SAFE_METHODS or not has_key_in_url(request.query_string):
        return None
    console = "/console" if f"{request.path}/".startswith("/console/") else ""
    return redirect(f"{console}/search?problem=secret", HTTPStatus.SEE_OTHER)


def _read_session(hub_request: HubRequest) -> None:
    if not hub_request.session.secret:
        sessions = hub_services().sessions
        cookie = request.cookies.get(hub_services().cookie_name)
        hub_request.session = sessions.read(cookie, extend=not is_live_update()) or sessions.new()


def has_csrf_token(hub_request: HubRequest) -> bool:
    """Whether the form of this request contains the CSRF token of this session."""
    sent = unmask(request.form.get(CSRF_FIELD, ""))
    return hmac.compare_digest(sent, hub_request.session.csrf.encode())


def check_form() -> AnyResponse | None:
    """Reject requests that change data unless they come from a form of this session, on a page of the Hub."""
    if request.method in SAFE_METHODS or request.routing_exception is not None:
        return None
    if is_called_by_issuer(current_app.view_functions.get(request.endpoint or "")):
        request.max_content_length = MAX_ANONYMOUS_FORM_BYTES * 2  # a token of 8 KiB, percent-encoded
        return None
    hub_request = current_hub_request()
    if hub_request.session.user is None:
        if hub_request.session.ended_session is None:
            ended_session = hub_services().sessions.find_ended_session(request.cookies.get(hub_services().cookie_name))
            hub_request.session = hub_request.session.with_(ended_session=ended_session)
        if hub_request.session.ended_session is None:
            request.max_content_length = MAX_ANONYMOUS_FORM_BYTES
    from_elsewhere = request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}
    origin = request.headers.get("Origin", hub_services().url)
    if from_elsewhere or origin != hub_services().url or not has_csrf_token(hub_request):
        access = access_of(current_app.view_functions.get(request.endpoint or ""))
        session_expired = (
            not from_elsewhere and origin == hub_services().url and hub_services().cookie_name not in request.cookies
        )
        if hub_request.session.user is None and access is not None and (session_expired or not access.anonymous):
            raise SignInRequired  # the session ended; a form without a user changes nothing in either case
        handle_stale_form: StaleFormHandler = current_app.extensions[STALE_FORM_EXTENSION]
        return handle_stale_form(
            hub_request, StaleForm("Your changes were not saved. The form expired or was not sent from the Hub.")
        )
    return None


def authorize() -> None:
    """Authenticate and authorize the request. Raises SignInRequired, Forbidden, or an error of `identity`."""
    if request.routing_exception is not None or request.endpoint == "static" or request.method == "OPTIONS":
        return
    access = access_of(current_app.view_functions.get(request.endpoint or ""))
    if access is None:
        raise Forbidden("This page doesn't declare who may access it, so access is denied.")
    require_access(current_hub_request(), access)


def require_access(hub_request: HubRequest, access: PageAccess) -> None:
    """Raises the errors of `authorize` unless the user of this request has the declared access."""
    if access.anonymous:
        return
    if hub_request.session.user is None:
        raise SignInRequired
    user = hub_request.session.user
    try:
        _require_current(hub_request, user)
        try:
            _authorize(hub_request, user, access)
        except ExpiredCredential:
            _authorize(hub_request, _refresh(hub_request, user), access)
        device = devices.describe(request.headers.get("User-Agent", ""))
        hub_services().sessions.record_use(
            hub_request.session, device, hub_request.address, is_live_update=is_live_update()
        )
    except InvalidCredential:
        _end_session(hub_request, user)
    except SessionEnded:
        _end_session(hub_request, user, "revoked")


def _require_current(hub_request: HubRequest, user: SignedInUser) -> None:
    """Refuse a session from before a cutoff of its user. A refreshed token may be newer than the cutoff.

    Raises SessionEnded, or SystemDatabaseUnavailable.
    """
    account = hub_request.session.account
    person = hub_request.services.people.person(user.subject)
    presented = Presented(person.id, hub_request.session.began_at)
    where = None if account is None or account == OPERATORS_ACCOUNT else account
    restrictions = hub_request.services.directory.restrictions(where, presented)
    # A block concerns one account: the verifier refuses it there, and the user can choose another account.
    refusal = replace(restrictions, blocked=False).refusal(presented)
    if refusal is not None:
        raise refusal


def _authorize(hub_request: HubRequest, user: SignedInUser, access: PageAccess) -> None:
    if access.operators:
        claims = hub_services().claims(user)
        hub_request.known = Principal(CredentialKind.JWT, OPERATORS_ACCOUNT, claims.subject, claims.name)
        if not hub_services().is_operator(claims):
            raise Forbidden("This page requires the role `operator`.")
        hub_request.operator = claims.subject
    elif access.account_access is not None:
        if hub_request.session.account is None or hub_request.session.account == OPERATORS_ACCOUNT:
            raise SignInRequired("/accounts")
        principal = hub_request.services.verifier.verify(JwtCredential(user.access_token, hub_request.session.account))
        account = hub_request.services.directory.find(principal.account)
        if account is None:
            raise AccountMismatch
        hub_request.known = principal
        access.account_access.check(principal)
        hub_request.admitted = AuthContext(principal, account)
        hub_request.services.people_seen.record(principal)
    else:
        hub_services().claims(user)


def _refresh(hub_request: HubRequest, user: SignedInUser) -> SignedInUser:
    """Refresh the user's token. A refresh token can be used once, so concurrent requests are serialized."""
    with hub_services().sessions.locked(hub_request.session) as session:
        if session is None or session.user is None:  # signed out in the meantime
            _end_session(hub_request, user)
        hub_request.session = session
        if session.user.access_token != user.access_token:  # another request refreshed the token
            return session.user
        try:
            renewed = hub_services().provider.refresh(session.user)
        except RefreshFailed as failed:
            sign_in_audit.not_renewed(hub_request, user, failed)
            _end_session(hub_request, user)
        hub_request.session = session.with_(user=renewed)
        hub_services().sessions.save(hub_request.session)
        return renewed


def _end_session(hub_request: HubRequest, user: SignedInUser, reason: str | None = None) -> NoReturn:
    """End a session whose token can't be renewed, or that was revoked. Forms in other windows can still be kept for the
    user."""
    ended = hub_request.session
    hub_services().sessions.end(ended)
    save_session(
        hub_request, hub_services().sessions.new().with_(ended_session=ended_session_of(user.subject, ended.account))
    )
    raise SignInRequired(ended=reason)


def save_session(hub_request: HubRequest, session: Session) -> None:
    """Store `session` for this browser: before sign-in, in the cookie only."""
    if session.user is None:
        hub_request.session, hub_request.cookie = session, hub_services().sessions.cookie_of(session)
        return
    hub_services().sessions.save(session)
    if session.secret != request.cookies.get(hub_services().cookie_name):
        hub_request.cookie = session.secret
    hub_request.session = session.with_(fresh=False)


def finish(response: Response) -> Response:
    """Add the headers of every page and the cookie, and write the access log line."""
    hub_request: HubRequest = g.kataven
    _set_cookie(hub_request, response)
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "private, no-cache" if _may_return_to(hub_request, response) else "no-store"
    return observe.finish(hub_request, request, response)


def _may_return_to(hub_request: HubRequest, response: Response) -> bool:
    """Whether a browser may keep this page, to show it when the user goes back.

    Pages with a new secret are responses to POST. They, errors, and pages outside a session are never stored. Sign-out
    clears what the browser has stored: see `CLEAR_STORED_PAGES`.
    """
    return (
        request.method == "GET"
        and response.status_code == HTTPStatus.OK
        and response.mimetype == "text/html"
        and hub_request.session.user is not None
        and response.headers.get("Cache-Control") != "no-store"
    )


def _set_cookie(hub_request: HubRequest, response: Response) -> None:
    name = hub_services().cookie_name
    if hub_request.cookie:
        max_age = ANONYMOUS_SECONDS if hub_request.cookie.startswith(f"{COOKIE_PREFIX}.") else None
        response.set_cookie(
            name,
            hub_request.cookie,
            max_age=max_age,
            path="/",
            httponly=True,
            secure=hub_services().secure,
            samesite="Lax",
        )
    elif hub_request.cookie == "":
        response.delete_cookie(name, path="/", httponly=True, secure=hub_services().secure, samesite="Lax")
