"""The path of a browser's request: which session, is this form its own, who is it, may they. Read it downwards.

Who somebody is and what they may do is not remembered in the session: it holds the issuer's token, and each request
has that verified for its account like any request to the API. So a grant that is withdrawn, an account that is
suspended and a token that ends all count here within the 30 s that they count there.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from flask import Flask, Response, current_app, g, request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub import sign_in_audit
from kataven.hub.anonymous import ANONYMOUS_SECONDS, COOKIE_PREFIX
from kataven.hub.page_blueprint import HubRequest, PageAccess, access_of, current_hub_request, is_called_while_typing
from kataven.hub.provider import Provider, RefreshFailed
from kataven.hub.runner import Runner
from kataven.hub.server_watch import ServerWatch
from kataven.hub.sessions import Session, Sessions, SignedInUser, ended_session_of
from kataven.identity import grants
from kataven.identity.credential import OPERATORS_ACCOUNT, JwtCredential
from kataven.identity.errors import AccountMismatch, ExpiredCredential, InvalidCredential
from kataven.identity.jwt import JwtVerifier, VerifiedClaims
from kataven.identity.principal import CredentialKind, Principal
from kataven.ratelimit.budget import AddressBudgetKind
from kataven.ratelimit.limiter import LimitExceeded, Meter
from kataven.web import observe
from kataven.web.access import Forbidden
from kataven.web.request_context import AuthContext

EXTENSION = "kataven.hub"
STALE_FORM_EXTENSION = "kataven.hub.late"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_FIELD = "csrf"
MAX_ANONYMOUS_FORM_BYTES = 8 * 1024
"""Of a form before anybody has signed in: an account's name, and where to go then."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing from anywhere but here, no inline script or style, no frame around it, no form to elsewhere: see `leave`."""


@dataclass(frozen=True)
class HubServices:
    """The Hub's own collaborators, beside those that every surface has."""

    url: str
    api_url: str
    measured_url: str
    """Where the API answers this process, to be measured."""
    sessions: Sessions
    provider: Provider
    access_tokens: JwtVerifier
    """Verifies what the issuer says of a person, where no account is asked about."""
    api_meter: Meter
    """What accounts use at the API."""
    operators_org_id: str | None
    role_claims: tuple[str, ...]
    runner: Runner
    """What takes longer than a request."""
    servers: ServerWatch = field(default_factory=ServerWatch)

    @property
    def secure(self) -> bool:
        return self.url.startswith("https://")

    @property
    def cookie_name(self) -> str:
        """`__Host-` (RFC 6265bis, section 4.1.3): for this very host alone, sent over https alone."""
        return "__Host-kataven" if self.secure else "kataven-hub"

    def close(self) -> None:
        """Close its connections."""
        self.sessions.close()
        self.api_meter.close()

    def claims(self, user: SignedInUser) -> VerifiedClaims:
        """What the issuer says of somebody. Raises as `JwtVerifier.claims` does."""
        return self.access_tokens.claims(user.access_token)

    def is_operator(self, claims: VerifiedClaims) -> bool:
        return self.operators_org_id is not None and grants.is_operator(
            claims.all, self.operators_org_id, self.role_claims
        )


class StaleForm(Forbidden):
    """A form that is not one of this session's."""


class SignInFirst(Exception):
    """This page is for somebody who has signed in, or to an account that is still to be chosen."""

    def __init__(self, path: str = "/sign-in") -> None:
        super().__init__(path)
        self.path = path


StaleFormHandler = Callable[[HubRequest, StaleForm], AnyResponse]
"""The answer to a form that is not one of this session's; or it raises the StaleForm."""


def install(app: Flask, hub_services: HubServices, late: StaleFormHandler) -> None:
    """Put every request of `app` on this path."""
    app.extensions[EXTENSION] = hub_services
    app.extensions[STALE_FORM_EXTENSION] = late
    app.before_request(open_hub_request)
    app.before_request(check_form)
    app.before_request(authorize)
    app.after_request(finish)
    app.teardown_request(observe.close_context)


def hub_services() -> HubServices:
    """The collaborators of the Hub that serves this request."""
    found: HubServices = current_app.extensions[EXTENSION]
    return found


def open_hub_request() -> None:
    """The edge: a request id, a believable address with a budget, and the session of the cookie, if it has one."""
    context = observe.open_context(request)
    hub_request = HubRequest(context.services, context.request_id, context.address, context.started)
    g.context = hub_request
    if request.endpoint == "static":
        return
    if is_called_while_typing(current_app.view_functions.get(request.endpoint or "")):
        # Not a page: it is counted for the session, and uses up nothing of what an office behind one address shares.
        _read_session(hub_request)
        if hub_request.session.user is not None:
            _consume_budget(hub_request, hub_request.session.handle, AddressBudgetKind.HUB_TYPING)
            return
    try:
        _consume_budget(hub_request, hub_request.address, AddressBudgetKind.HUB)
    except LimitExceeded:
        if request.method not in SAFE_METHODS:
            _read_session(hub_request)  # what was typed is not lost if it is one of this session's forms
        raise
    _read_session(hub_request)


def _consume_budget(hub_request: HubRequest, whose: str, kind: AddressBudgetKind) -> None:
    decision = hub_request.services.limiter.addresses.spend(whose, kind)
    if not decision.admitted:
        raise LimitExceeded(decision)


def _read_session(hub_request: HubRequest) -> None:
    if not hub_request.session.secret:
        sessions = hub_services().sessions
        hub_request.session = sessions.read(request.cookies.get(hub_services().cookie_name)) or sessions.new()


def has_csrf_token(hub_request: HubRequest) -> bool:
    """Whether the form of this request carries this session's token."""
    sent = request.form.get(CSRF_FIELD, "")
    return hmac.compare_digest(sent.encode(), hub_request.session.csrf.encode())


def check_form() -> AnyResponse | None:
    """What changes something must come from a form of this session, on a page of ours."""
    if request.method in SAFE_METHODS or request.routing_exception is not None:
        return None
    hub_request = current_hub_request()
    if hub_request.session.user is None:
        if hub_request.session.ended_session is None:
            ended_session = hub_services().sessions.recall(request.cookies.get(hub_services().cookie_name))
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
            raise SignInFirst  # the session is over; nobody's form does nothing either way
        late: StaleFormHandler = current_app.extensions[STALE_FORM_EXTENSION]
        return late(hub_request, StaleForm("Nothing was done. The form was open for long, or was not sent from here."))
    return None


def authorize() -> None:
    """Who is it, and may they see this? Raises SignInFirst, Forbidden, or one of identity's refusals."""
    if request.routing_exception is not None or request.endpoint == "static" or request.method == "OPTIONS":
        return
    access = access_of(current_app.view_functions.get(request.endpoint or ""))
    if access is None:
        raise Forbidden("This page declares nobody who may see it, so nobody may.")
    require_access(current_hub_request(), access)


def require_access(hub_request: HubRequest, access: PageAccess) -> None:
    """Raises as `admit` unless the person of this visit is one of `who`."""
    if access.anonymous:
        return
    if hub_request.session.user is None:
        raise SignInFirst
    try:
        _authorize(hub_request, hub_request.session.user, access)
    except ExpiredCredential:
        _authorize(hub_request, _refreshed(hub_request, hub_request.session.user), access)
    except InvalidCredential:
        _sign_out(hub_request, hub_request.session.user)


def _authorize(hub_request: HubRequest, user: SignedInUser, access: PageAccess) -> None:
    if access.operators:
        claims = hub_services().claims(user)
        hub_request.known = Principal(CredentialKind.JWT, OPERATORS_ACCOUNT, claims.subject, claims.name)
        if not hub_services().is_operator(claims):
            raise Forbidden("This is for Kataven's operators.")
        hub_request.operator = claims.subject
    elif access.account_access is not None:
        if hub_request.session.account is None or hub_request.session.account == OPERATORS_ACCOUNT:
            raise SignInFirst("/accounts")
        principal = hub_request.services.verifier.verify(JwtCredential(user.access_token, hub_request.session.account))
        account = hub_request.services.directory.find(principal.account)
        if account is None:
            raise AccountMismatch
        hub_request.known = principal
        access.account_access.check(principal)
        hub_request.admitted = AuthContext(principal, account)
    else:
        hub_services().claims(user)


def _refreshed(hub_request: HubRequest, user: SignedInUser) -> SignedInUser:
    """The same person with a token that counts. A refresh token is good once, so one of several requests asks."""
    with hub_services().sessions.locked(hub_request.session) as session:
        if session is None or session.user is None:  # signed out meanwhile
            _sign_out(hub_request, user)
        hub_request.session = session
        if session.user.access_token != user.access_token:  # another request has asked
            return session.user
        try:
            renewed = hub_services().provider.refresh(session.user)
        except RefreshFailed as gone:
            sign_in_audit.not_renewed(hub_request, user, gone)
            _sign_out(hub_request, user)
        hub_request.session = session.with_(user=renewed)
        hub_services().sessions.save(hub_request.session)
        return renewed


def _sign_out(hub_request: HubRequest, user: SignedInUser) -> NoReturn:
    """The issuer no longer vouches for this person. Forms that are open in other windows may still be kept for them."""
    ended = hub_request.session
    hub_services().sessions.end(ended)
    save_session(
        hub_request, hub_services().sessions.new().with_(ended_session=ended_session_of(user.subject, ended.account))
    )
    raise SignInFirst


def save_session(hub_request: HubRequest, session: Session) -> None:
    """Remember `session` for this browser: in its cookie alone until somebody has signed in."""
    if session.user is None:
        hub_request.session, hub_request.cookie = session, hub_services().sessions.cookie_of(session)
        return
    hub_services().sessions.save(session)
    if session.secret != request.cookies.get(hub_services().cookie_name):
        hub_request.cookie = session.secret
    hub_request.session = session.with_(fresh=False)


def finish(response: Response) -> Response:
    """The headers of every page, the cookie, and the line in the log."""
    hub_request: HubRequest = g.context
    _set_cookie(hub_request, response)
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if request.endpoint != "static":
        # Pages are somebody's: not even the browser keeps them, so "back" shows no secret and no other person's page.
        response.headers["Cache-Control"] = "no-store"
    return observe.finish(hub_request, request, response)


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
