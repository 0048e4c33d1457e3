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
from kataven.hub.console.usage import account_quotas
from kataven.hub.edits import SEEN, Words, read_edit, seen_of
from kataven.hub.formatting import change_in_words, counted, refusal_in_words
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, go, read_form, show
from kataven.hub.session_middleware import keep
from kataven.identity.token import is_account_name
from kataven.operations import account_limits, account_status
from kataven.operations.operator import Operator
from kataven.ratelimit.policy import MAX_LIMIT
from kataven.revocation.receipt import Receipt
from kataven.system import accounts, operators
from kataven.system.directory import AccountRecord, record_of, record_query
from kataven.system.errors import ContradictoryLimits, SystemRefusal
from kataven.system.models import Account, OperatorEvent
from kataven.tenancy.errors import TenancyError
from kataven.web.schema import Input

blueprint = PageBlueprint("console-account", __name__, "account")

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


@blueprint.page("/console/accounts/<account>", OPERATORS)
def show_account(hub_request: HubRequest, account: str) -> AnyResponse:
    return _page(hub_request, account)


def _limits_again(hub_request: HubRequest, typed: Mapping[str, str], account: str) -> AnyResponse:
    return _page(hub_request, account, typed, form="limits")


@blueprint.form("/console/accounts/<account>/limits", OPERATORS, _limits_again)
def set_limits(hub_request: HubRequest, account: str) -> AnyResponse:
    form, problems = read_form(LimitsForm)
    if form is None:
        return _page(hub_request, account, request.form, problems)
    _find(hub_request, account)
    edit = read_edit(form.model_dump(), LIMITS_WORDS)
    try:
        account_limits.change(
            _operator(hub_request), account, form.model_dump(), lambda found: edit.check(asdict(found))
        )
    except ContradictoryLimits as error:
        return _page(hub_request, account, request.form, {"per_minute": str(error)})
    return _done(hub_request, account, "The limits are changed. Every worker keeps to them within a second.")


def _policy_again(hub_request: HubRequest, typed: Mapping[str, str], account: str) -> AnyResponse:
    return _page(hub_request, account, typed, form="policy")


@blueprint.form("/console/accounts/<account>/policy", OPERATORS, _policy_again)
def set_policy(hub_request: HubRequest, account: str) -> AnyResponse:
    form, problems = read_form(
        PolicyForm, max_days=request.form.get("max_days", "").strip() or None, existing="existing" in request.form
    )
    if form is None:
        return _page(hub_request, account, request.form, problems)
    _find(hub_request, account)
    edit = read_edit({"max_days": form.max_days}, POLICY_WORDS, "existing")
    try:
        shortened, receipt = account_status.change_key_policy(
            _operator(hub_request),
            account,
            form.max_days,
            existing=form.existing,
            condition=lambda found: edit.check({"max_days": found.max_key_expiry_days}),
        )
    except TenancyError as error:
        return _page(hub_request, account, request.form, {"max_days": str(error)})
    keys = f"; {counted(shortened, 'key')} {'ends' if shortened == 1 else 'end'} sooner now" if form.existing else ""
    return _done(hub_request, account, f"The policy is changed{keys}: {change_in_words(receipt.as_json())}.")


@blueprint.form("/console/accounts/<account>/suspend", OPERATORS)
def suspend(hub_request: HubRequest, account: str) -> AnyResponse:
    return _close(hub_request, account, account_status.suspend, "suspended")


@blueprint.form("/console/accounts/<account>/archive", OPERATORS)
def archive(hub_request: HubRequest, account: str) -> AnyResponse:
    return _close(hub_request, account, account_status.archive, "archived")


@blueprint.form("/console/accounts/<account>/resume", OPERATORS)
def resume(hub_request: HubRequest, account: str) -> AnyResponse:
    return _move(hub_request, account, account_status.resume, "open again", change_in_words)


@blueprint.form("/console/accounts/<account>/restore", OPERATORS)
def restore(hub_request: HubRequest, account: str) -> AnyResponse:
    return _move(hub_request, account, account_status.restore, "open again", change_in_words)


Verb = Callable[[Operator, str], Receipt]
InWords = Callable[[Mapping[str, Any]], str]


def _close(hub_request: HubRequest, account: str, verb: Verb, done: str) -> AnyResponse:
    if request.form.get("confirm", "").strip() != account:
        field = f"confirm-{verb.__name__}"
        return _page(
            hub_request, account, {}, {field: f"Type {account} here: every key of it is refused from then on."}
        )
    return _move(hub_request, account, verb, done, refusal_in_words)


def _move(hub_request: HubRequest, account: str, verb: Verb, done: str, in_words: InWords) -> AnyResponse:
    _find(hub_request, account)
    try:
        receipt = verb(_operator(hub_request), account)
    except SystemRefusal as error:
        return _page(hub_request, account, {}, {"status": str(error)})
    return _done(hub_request, account, f"{account} is {done}: {in_words(receipt.as_json())}.")


def _operator(hub_request: HubRequest) -> Operator:
    return Operator(hub_request.operator_label, hub_request.services)


def _done(hub_request: HubRequest, account: str, words: str) -> AnyResponse:
    keep(hub_request, hub_request.session.with_(notice=words))
    return go(f"/console/accounts/{account}")


def _page(
    hub_request: HubRequest,
    account: str,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
    form: str | None = None,
) -> AnyResponse:
    """`form` is the one that `typed` is of, if it isn't the one that this request sends."""
    record, row, events = _find(hub_request, account)
    seen = {"limits": seen_of(asdict(record.limits)), "policy": seen_of({"max_days": record.max_key_expiry_days})}
    if typed and SEEN in typed:  # a form that comes back to be corrected was opened with what it says
        seen[form or request.path.rpartition("/")[2]] = typed[SEEN]
    return show(
        "console/account.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        record=record,
        row=row,
        events=events,
        account_quotas=account_quotas(account, record.limits),
        seen=seen,
        typed=typed or {},
        problems=problems or {},
    )


def _find(hub_request: HubRequest, account: str) -> tuple[AccountRecord, Account, list[OperatorEvent]]:
    """The account as it is now, with its latest events. Raises NotFound."""
    if not is_account_name(account):
        raise NotFound("account")
    database = hub_request.services.directory.database
    with database.reading() as session:
        found = session.execute(record_query().where(Account.account_id == account)).first()
        if found is None:
            raise NotFound("account")
        events = list(operators.listing(session, EVENTS, account=account))
        return record_of(database.url, found), accounts.read(session, account), events
