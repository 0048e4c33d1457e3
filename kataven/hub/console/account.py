"""One account: how it stands, what it may ask for, and what can be done to it. What is dangerous asks for its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from flask import request
from pydantic import Field
from werkzeug.wrappers import Response as AnyResponse

from kataven.account.errors import NotFound
from kataven.hub.console.usage import standings
from kataven.hub.edits import SEEN, Words, read_edit, seen_of
from kataven.hub.gate import keep
from kataven.hub.page import OPERATORS, Desk, Visit, go, read_form, show
from kataven.hub.words import change_in_words, counted, refusal_in_words
from kataven.identity.token import is_account_name
from kataven.ratelimit.policy import MAX_LIMIT
from kataven.revocation.receipt import Receipt
from kataven.system import accounts, closing, operators
from kataven.system.closing import Office
from kataven.system.directory import AccountRecord, record_of, record_query
from kataven.system.errors import ContradictoryLimits, SystemRefusal
from kataven.system.models import Account, OperatorEvent
from kataven.tenancy.errors import TenancyError
from kataven.web import operating
from kataven.web.schema import Input

desk = Desk("console-account", __name__, "account")

EVENTS = 10
MAX_DAYS = 36_500
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


LIMITS_WORDS = {
    "per_minute": Words("A minute"),
    "per_hour": Words("An hour"),
    "per_day": Words("A day"),
    "concurrent": Words("In flight"),
}
POLICY_WORDS = {"max_days": Words("Keys may live for, in days")}
"""As the page calls its fields."""


class LimitsForm(Input):
    """An account's limits, all of them."""

    per_minute: Limit
    per_hour: Limit
    per_day: Limit
    concurrent: Limit


class PolicyForm(Input):
    """How long keys may live."""

    max_days: Annotated[int, Field(ge=1, le=MAX_DAYS)] | None = None
    existing: bool = False


@desk.shows("/console/accounts/<account>", OPERATORS)
def show_account(visit: Visit, account: str) -> AnyResponse:
    return _page(visit, account)


def _limits_again(visit: Visit, typed: Mapping[str, str], account: str) -> AnyResponse:
    return _page(visit, account, typed, form="limits")


@desk.takes("/console/accounts/<account>/limits", OPERATORS, _limits_again)
def set_limits(visit: Visit, account: str) -> AnyResponse:
    form, problems = read_form(LimitsForm)
    if form is None:
        return _page(visit, account, request.form, problems)
    _find(visit, account)
    edit = read_edit(form.model_dump(), LIMITS_WORDS)
    try:
        operating.change_limits(
            visit.services, account, form.model_dump(), visit.operator_label, lambda found: edit.check(asdict(found))
        )
    except ContradictoryLimits as error:
        return _page(visit, account, request.form, {"per_minute": str(error)})
    return _done(visit, account, "The limits are changed. Every worker keeps to them within a second.")


def _policy_again(visit: Visit, typed: Mapping[str, str], account: str) -> AnyResponse:
    return _page(visit, account, typed, form="policy")


@desk.takes("/console/accounts/<account>/policy", OPERATORS, _policy_again)
def set_policy(visit: Visit, account: str) -> AnyResponse:
    form, problems = read_form(
        PolicyForm, max_days=request.form.get("max_days", "").strip() or None, existing="existing" in request.form
    )
    if form is None:
        return _page(visit, account, request.form, problems)
    _find(visit, account)
    edit = read_edit({"max_days": form.max_days}, POLICY_WORDS, "existing")
    office = operating.office(visit.services, visit.operator_label)
    try:
        shortened, receipt = closing.limit_expiry(
            office,
            account,
            form.max_days,
            existing=form.existing,
            condition=lambda found: edit.check({"max_days": found.max_key_expiry_days}),
        )
    except TenancyError as error:
        return _page(visit, account, request.form, {"max_days": str(error)})
    keys = f"; {counted(shortened, 'key')} {'ends' if shortened == 1 else 'end'} sooner now" if form.existing else ""
    return _done(visit, account, f"The policy is changed{keys}: {change_in_words(receipt.as_json())}.")


@desk.takes("/console/accounts/<account>/suspend", OPERATORS)
def suspend(visit: Visit, account: str) -> AnyResponse:
    return _close(visit, account, closing.suspend, "suspended")


@desk.takes("/console/accounts/<account>/archive", OPERATORS)
def archive(visit: Visit, account: str) -> AnyResponse:
    return _close(visit, account, closing.archive, "archived")


@desk.takes("/console/accounts/<account>/resume", OPERATORS)
def resume(visit: Visit, account: str) -> AnyResponse:
    return _move(visit, account, closing.resume, "open again", change_in_words)


@desk.takes("/console/accounts/<account>/restore", OPERATORS)
def restore(visit: Visit, account: str) -> AnyResponse:
    return _move(visit, account, closing.restore, "open again", change_in_words)


Verb = Callable[[Office, str], Receipt]
InWords = Callable[[Mapping[str, Any]], str]


def _close(visit: Visit, account: str, verb: Verb, done: str) -> AnyResponse:
    if request.form.get("confirm", "").strip() != account:
        field = f"confirm-{verb.__name__}"
        return _page(visit, account, {}, {field: f"Type {account} here: every key of it is refused from then on."})
    return _move(visit, account, verb, done, refusal_in_words)


def _move(visit: Visit, account: str, verb: Verb, done: str, in_words: InWords) -> AnyResponse:
    _find(visit, account)
    try:
        receipt = verb(operating.office(visit.services, visit.operator_label), account)
    except SystemRefusal as error:
        return _page(visit, account, {}, {"status": str(error)})
    return _done(visit, account, f"{account} is {done}: {in_words(receipt.as_json())}.")


def _done(visit: Visit, account: str, words: str) -> AnyResponse:
    keep(visit, visit.session.with_(notice=words))
    return go(f"/console/accounts/{account}")


def _page(
    visit: Visit,
    account: str,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
    form: str | None = None,
) -> AnyResponse:
    """`form` is the one that `typed` is of, if it isn't the one that this request sends."""
    record, row, events = _find(visit, account)
    seen = {"limits": seen_of(asdict(record.limits)), "policy": seen_of({"max_days": record.max_key_expiry_days})}
    if typed and SEEN in typed:  # a form that comes back to be corrected was opened with what it says
        seen[form or request.path.rpartition("/")[2]] = typed[SEEN]
    return show(
        "console/account.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        record=record,
        row=row,
        events=events,
        standings=standings(account, record.limits),
        seen=seen,
        typed=typed or {},
        problems=problems or {},
    )


def _find(visit: Visit, account: str) -> tuple[AccountRecord, Account, list[OperatorEvent]]:
    """The account as it is now, with its latest events. Raises NotFound."""
    if not is_account_name(account):
        raise NotFound("account")
    database = visit.services.directory.database
    with database.reading() as session:
        found = session.execute(record_query().where(Account.account_id == account)).first()
        if found is None:
            raise NotFound("account")
        events = list(operators.listing(session, EVENTS, account=account))
        return record_of(database.url, found), accounts.read(session, account), events
