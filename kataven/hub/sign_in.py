"""From an account's name to a session, and out again: OpenID Connect, authorization code with PKCE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub import sign_in_audit
from kataven.hub.anonymous import ANONYMOUS_SECONDS
from kataven.hub.gate import StaleForm, front, keep
from kataven.hub.page import SIGNED_IN, STRANGERS, Desk, Visit, go, is_path, leave, show
from kataven.hub.sessions import Person, SignIn, new_csrf
from kataven.hub.sign_in_failure import SignInFailed
from kataven.hub.sign_in_reasons import Reason, checklist
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.identity.grants import organisations, role_gap, strongest_role
from kataven.identity.token import is_account_name
from kataven.system import accounts
from kataven.system.directory import AccountRecord

desk = Desk("sign-in", __name__)

HOME = "/"
CONSOLE = "/console"
LONGEST_NEXT_BYTES = 1_024
"""It goes to the issuer and back in a cookie, for which browsers have 4 KiB."""


@desk.shows("/sign-in", STRANGERS)
def show_sign_in(visit: Visit) -> AnyResponse:
    """Which account? Everything else is asked at the issuer."""
    if visit.session.person is not None:
        return go(_next(request.args.get("next")))
    keep(visit, visit.session)
    before = visit.session.before
    return _form((before and before.account) or "", None, _next(request.args.get("next")))


def _again(visit: Visit, typed: Mapping[str, str]) -> AnyResponse:
    """The form of another tab. If somebody has signed in since, it has nothing left to do."""
    account, next_path = typed.get("account", "").strip().lower(), _next(typed.get("next"))
    if visit.session.person is not None:
        return go(next_path if account in {"", visit.session.account} else "/accounts")
    keep(visit, visit.session)
    return _form(account, None, next_path)


@desk.takes("/sign-in", STRANGERS, _again)
def begin_sign_in(visit: Visit) -> AnyResponse:
    if visit.session.person is not None:
        return _again(visit, request.form)
    account, next_path = request.form.get("account", "").strip().lower(), _next(request.form.get("next"))
    problem = _problem(visit, account)
    if problem is not None:
        return _form(account, problem, next_path)
    url, sign_in = front().provider.begin(account, next_path, _org_id(visit, account))
    keep(visit, visit.session.begun(replace(sign_in, began_at=front().sessions.now())))
    return leave(url, "Signing in")


@desk.shows("/auth/callback", STRANGERS)
def finish_sign_in(visit: Visit) -> AnyResponse:
    """The issuer sent the browser back."""
    try:
        sign_in = _used_up(visit)
    except SignInFailed:
        if visit.session.person is not None:  # somebody went back in their browser
            return go(HOME)
        raise
    person = front().provider.finish(sign_in, request.args.to_dict())
    if _is_signed_in(visit, person, sign_in):  # in another tab, meanwhile: what is open there stays good
        return go(sign_in.next_path)
    belongs = _belongs(visit, person, sign_in.account)
    gap = None if belongs else role_gap(front().claims(person).all, front().role_claims)
    recorded_in = sign_in_audit.signed_in(visit, person, sign_in.account, gap)
    session = front().sessions.renewed(visit.session)
    keep(visit, session.with_(person=person, account=sign_in.account, recorded_in=recorded_in))
    return go(CONSOLE if sign_in.account == OPERATORS_ACCOUNT and sign_in.next_path == HOME else sign_in.next_path)


@desk.shows("/accounts", SIGNED_IN)
def choose_account(visit: Visit) -> AnyResponse:
    """Every account that the person has a role in."""
    assert visit.session.person is not None  # noqa: S101  the gate let nobody else in
    claims = front().claims(visit.session.person)
    found = _accounts(visit)
    return show("accounts.html", accounts=found, operator=front().is_operator(claims))


@desk.takes("/accounts", SIGNED_IN)
def switch_account(visit: Visit) -> AnyResponse:
    wanted = request.form.get("account", "")
    if not any(record.account == wanted for record in _accounts(visit)):
        return go("/accounts")
    # Forms that are open in another window were about the account from before, and must not be taken to this one.
    keep(visit, visit.session.with_(account=wanted, csrf=new_csrf()))
    return go(HOME)


def _signed_out_already(visit: Visit, _: Mapping[str, str]) -> AnyResponse:
    if visit.session.person is None:
        return go("/signed-out")
    raise StaleForm("You are still signed in. The page was opened in an earlier session: reload it, then sign out.")


@desk.takes("/sign-out", STRANGERS, _signed_out_already)
def sign_out(visit: Visit) -> AnyResponse:
    """End the session here, then at the issuer."""
    ended = visit.session
    front().sessions.end(ended)
    visit.session, visit.cookie = front().sessions.new(), ""
    if ended.person is None:
        return go("/signed-out")
    sign_in_audit.signed_out(visit, ended.person, ended.recorded_in)
    at_issuer = front().provider.sign_out_url(f"{front().url}/signed-out")
    return go("/signed-out") if at_issuer is None else leave(at_issuer, "Signing out")


@desk.shows("/signed-out", STRANGERS)
def show_signed_out(visit: Visit) -> AnyResponse:
    return show("signed_out.html")


@desk.shows("/help/sign-in", STRANGERS)
def show_sign_in_help(visit: Visit) -> AnyResponse:
    """What to change when signing in fails. Every page of a failed sign-in leads here."""
    return show("sign_in_help.html", checklist=checklist())


def _used_up(visit: Visit) -> SignIn:
    """Remove and return the pending sign-in that this callback's state names: state, nonce and verifier are valid for
    one callback only, even if it fails. Redis decides which of several callbacks is the first, so a copy of an old
    cookie doesn't help. The state is remembered for as long as such a copy can be used.

    Raises SignInFailed. An answer with another state uses nothing up: it is of no sign-in of this browser's."""
    sign_in = visit.session.pending(request.args.get("state", ""), front().sessions.now())
    if sign_in is None:
        raise SignInFailed(Reason.STATE if visit.session.sign_ins else Reason.NOT_BEGUN)
    keep(visit, visit.session.without(sign_in))
    if not front().sessions.take_turn(f"sign-in:{sign_in.state}", ANONYMOUS_SECONDS):
        raise SignInFailed(Reason.NOT_BEGUN)
    return sign_in


def _is_signed_in(visit: Visit, person: Person, sign_in: SignIn) -> bool:
    current = visit.session.person
    return current is not None and current.subject == person.subject and visit.session.account == sign_in.account


def _belongs(visit: Visit, person: Person, account: str) -> bool:
    """Whether the person has a role in the account, so that its audit trail records the sign-in."""
    claims = front().claims(person)
    if account == OPERATORS_ACCOUNT:
        return front().is_operator(claims)
    record = visit.services.directory.find(account)
    if record is None or not record.open or record.zitadel_org_id is None:
        return False
    return strongest_role(claims.all, record.zitadel_org_id, front().role_claims) is not None


def _org_id(visit: Visit, account: str) -> str | None:
    if account == OPERATORS_ACCOUNT:
        return front().operators_org_id
    record = visit.services.directory.find(account)
    return None if record is None else record.zitadel_org_id


def _form(account: str, problem: str | None, next_path: str) -> AnyResponse:
    status = HTTPStatus.OK if problem is None else HTTPStatus.BAD_REQUEST
    kept = next_path.startswith("/sent/")
    ended = kept or "ended" in request.args
    return show("sign_in.html", status, account=account, problem=problem, next_path=next_path, ended=ended, kept=kept)


def _problem(visit: Visit, account: str) -> str | None:
    if not account:
        return "Type the name of your account."
    if not is_account_name(account):
        return "An account's name has small letters, digits, - and _, and begins with a letter or a digit."
    if account != OPERATORS_ACCOUNT and visit.services.directory.find(account) is None:
        return "There is no account of this name. It is the part of your API keys after “sk_live_”."
    return None


def _next(asked: str | None) -> str:
    fits = asked is not None and is_path(asked) and len(asked.encode()) <= LONGEST_NEXT_BYTES
    return asked if asked is not None and fits else HOME


def _accounts(visit: Visit) -> list[AccountRecord]:
    person = visit.session.person
    assert person is not None  # noqa: S101  as above
    held = organisations(front().claims(person).all, front().role_claims)
    with visit.services.directory.database.reading() as session:
        names = accounts.of_organisations(session, held)
    return [record for name in names if (record := visit.services.directory.find(name)) is not None]
