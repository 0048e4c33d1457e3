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
from kataven.hub.anonymous import ANONYMOUS_SECONDS, MARK
from kataven.hub.page import Visit, Who, current_visit, is_asked_while_typing, who_of
from kataven.hub.provider import GrantGone, Provider
from kataven.hub.runner import Runner
from kataven.hub.server_watch import ServerWatch
from kataven.hub.sessions import Person, Session, Sessions, before_of
from kataven.identity import grants
from kataven.identity.credential import OPERATORS_ACCOUNT, JwtCredential
from kataven.identity.errors import AccountMismatch, ExpiredCredential, InvalidCredential
from kataven.identity.jwt import JwtVerifier, VerifiedClaims
from kataven.identity.principal import CredentialKind, Principal
from kataven.ratelimit.budget import Kind
from kataven.ratelimit.limiter import LimitExceeded, Meter
from kataven.web import observe
from kataven.web.access import Forbidden
from kataven.web.call import Admitted

EXTENSION = "kataven.hub"
LATE = "kataven.hub.late"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_FIELD = "csrf"
MAX_STRANGERS_FORM_BYTES = 8 * 1024
"""Of a form before anybody has signed in: an account's name, and where to go then."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing from anywhere but here, no inline script or style, no frame around it, no form to elsewhere: see `leave`."""


@dataclass(frozen=True)
class Front:
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

    def claims(self, person: Person) -> VerifiedClaims:
        """What the issuer says of somebody. Raises as `JwtVerifier.claims` does."""
        return self.access_tokens.claims(person.access_token)

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


Late = Callable[[Visit, StaleForm], AnyResponse]
"""The answer to a form that is not one of this session's; or it raises the StaleForm."""


def install(app: Flask, front: Front, late: Late) -> None:
    """Put every request of `app` on this path."""
    app.extensions[EXTENSION] = front
    app.extensions[LATE] = late
    app.before_request(open_visit)
    app.before_request(check_form)
    app.before_request(admit)
    app.after_request(finish)
    app.teardown_request(observe.close_call)


def front() -> Front:
    """The collaborators of the Hub that serves this request."""
    found: Front = current_app.extensions[EXTENSION]
    return found


def open_visit() -> None:
    """The edge: a request id, a believable address with a budget, and the session of the cookie, if it has one."""
    call = observe.open_call(request)
    visit = Visit(call.services, call.request_id, call.address, call.started)
    g.call = visit
    if request.endpoint == "static":
        return
    if is_asked_while_typing(current_app.view_functions.get(request.endpoint or "")):
        # Not a page: it is counted for the session, and uses up nothing of what an office behind one address shares.
        _read_session(visit)
        if visit.session.person is not None:
            _spend(visit, visit.session.handle, Kind.HUB_TYPING)
            return
    try:
        _spend(visit, visit.address, Kind.HUB)
    except LimitExceeded:
        if request.method not in SAFE_METHODS:
            _read_session(visit)  # what was typed is not lost if it is one of this session's forms
        raise
    _read_session(visit)


def _spend(visit: Visit, whose: str, kind: Kind) -> None:
    decision = visit.services.limiter.addresses.spend(whose, kind)
    if not decision.admitted:
        raise LimitExceeded(decision)


def _read_session(visit: Visit) -> None:
    if not visit.session.secret:
        sessions = front().sessions
        visit.session = sessions.read(request.cookies.get(front().cookie_name)) or sessions.new()


def has_token(visit: Visit) -> bool:
    """Whether the form of this request carries this session's token."""
    sent = request.form.get(CSRF_FIELD, "")
    return hmac.compare_digest(sent.encode(), visit.session.csrf.encode())


def check_form() -> AnyResponse | None:
    """What changes something must come from a form of this session, on a page of ours."""
    if request.method in SAFE_METHODS or request.routing_exception is not None:
        return None
    visit = current_visit()
    if visit.session.person is None:
        if visit.session.before is None:
            before = front().sessions.recall(request.cookies.get(front().cookie_name))
            visit.session = visit.session.with_(before=before)
        if visit.session.before is None:
            request.max_content_length = MAX_STRANGERS_FORM_BYTES
    from_elsewhere = request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}
    origin = request.headers.get("Origin", front().url)
    if from_elsewhere or origin != front().url or not has_token(visit):
        who = who_of(current_app.view_functions.get(request.endpoint or ""))
        lapsed = not from_elsewhere and origin == front().url and front().cookie_name not in request.cookies
        if visit.session.person is None and who is not None and (lapsed or not who.strangers):
            raise SignInFirst  # the session is over; nobody's form does nothing either way
        late: Late = current_app.extensions[LATE]
        return late(visit, StaleForm("Nothing was done. The form was open for long, or was not sent from here."))
    return None


def admit() -> None:
    """Who is it, and may they see this? Raises SignInFirst, Forbidden, or one of identity's refusals."""
    if request.routing_exception is not None or request.endpoint == "static" or request.method == "OPTIONS":
        return
    who = who_of(current_app.view_functions.get(request.endpoint or ""))
    if who is None:
        raise Forbidden("This page declares nobody who may see it, so nobody may.")
    let_in(current_visit(), who)


def let_in(visit: Visit, who: Who) -> None:
    """Raises as `admit` unless the person of this visit is one of `who`."""
    if who.strangers:
        return
    if visit.session.person is None:
        raise SignInFirst
    try:
        _let_in(visit, visit.session.person, who)
    except ExpiredCredential:
        _let_in(visit, _refreshed(visit, visit.session.person), who)
    except InvalidCredential:
        _sign_out(visit, visit.session.person)


def _let_in(visit: Visit, person: Person, who: Who) -> None:
    if who.operators:
        claims = front().claims(person)
        visit.known = Principal(CredentialKind.JWT, OPERATORS_ACCOUNT, claims.subject, claims.name)
        if not front().is_operator(claims):
            raise Forbidden("This is for Kataven's operators.")
        visit.operator = claims.subject
    elif who.access is not None:
        if visit.session.account is None or visit.session.account == OPERATORS_ACCOUNT:
            raise SignInFirst("/accounts")
        principal = visit.services.verifier.verify(JwtCredential(person.access_token, visit.session.account))
        account = visit.services.directory.find(principal.account)
        if account is None:
            raise AccountMismatch
        visit.known = principal
        who.access.check(principal)
        visit.admitted = Admitted(principal, account)
    else:
        front().claims(person)


def _refreshed(visit: Visit, person: Person) -> Person:
    """The same person with a token that counts. A refresh token is good once, so one of several requests asks."""
    with front().sessions.alone(visit.session) as session:
        if session is None or session.person is None:  # signed out meanwhile
            _sign_out(visit, person)
        visit.session = session
        if session.person.access_token != person.access_token:  # another request has asked
            return session.person
        try:
            renewed = front().provider.refresh(session.person)
        except GrantGone as gone:
            sign_in_audit.not_renewed(visit, person, gone)
            _sign_out(visit, person)
        visit.session = session.with_(person=renewed)
        front().sessions.save(visit.session)
        return renewed


def _sign_out(visit: Visit, person: Person) -> NoReturn:
    """The issuer no longer vouches for this person. Forms that are open in other windows may still be kept for them."""
    ended = visit.session
    front().sessions.end(ended)
    keep(visit, front().sessions.new().with_(before=before_of(person.subject, ended.account)))
    raise SignInFirst


def keep(visit: Visit, session: Session) -> None:
    """Remember `session` for this browser: in its cookie alone until somebody has signed in."""
    if session.person is None:
        visit.session, visit.cookie = session, front().sessions.cookie_of(session)
        return
    front().sessions.save(session)
    if session.secret != request.cookies.get(front().cookie_name):
        visit.cookie = session.secret
    visit.session = session.with_(fresh=False)


def finish(response: Response) -> Response:
    """The headers of every page, the cookie, and the line in the log."""
    visit: Visit = g.call
    _set_cookie(visit, response)
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if request.endpoint != "static":
        # Pages are somebody's: not even the browser keeps them, so "back" shows no secret and no other person's page.
        response.headers["Cache-Control"] = "no-store"
    return observe.finish(visit, request, response)


def _set_cookie(visit: Visit, response: Response) -> None:
    name = front().cookie_name
    if visit.cookie:
        max_age = ANONYMOUS_SECONDS if visit.cookie.startswith(f"{MARK}.") else None
        response.set_cookie(
            name, visit.cookie, max_age=max_age, path="/", httponly=True, secure=front().secure, samesite="Lax"
        )
    elif visit.cookie == "":
        response.delete_cookie(name, path="/", httponly=True, secure=front().secure, samesite="Lax")
