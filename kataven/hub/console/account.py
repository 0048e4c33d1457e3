"""One account: details, limits, key policy and status. Dangerous actions require its name as confirmation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from flask import request
from pydantic import Field
from werkzeug.wrappers import Response as AnyResponse

from kataven.account.errors import NotFound
from kataven.hub.console import refusals
from kataven.hub.console.lists import server_states
from kataven.hub.console.usage import account_quotas
from kataven.hub.edits import SEEN, FieldLabel, read_edit, seen_of
from kataven.hub.formatting import describe_change, describe_revocation, moment, pluralize
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, read_form, render, see_other
from kataven.hub.session_middleware import save_session
from kataven.identity.token import is_account_name
from kataven.operations import account_limits, account_status, limit_raises
from kataven.operations.operator import Operator
from kataven.ratelimit.policy import LIMIT_FIELDS, MAX_LIMIT, WINDOWS
from kataven.revocation.receipt import Receipt
from kataven.system import accounts, operators, servers
from kataven.system import limit_raises as stored_raises
from kataven.system.directory import AccountRecord, record_of, record_query
from kataven.system.errors import ContradictoryLimits, NotARaise, SystemRefusal, SystemSchemaBehind
from kataven.system.models import Account, OperatorEvent
from kataven.tenancy.errors import TenancyError
from kataven.web.schema import Input, with_fields

blueprint = PageBlueprint("console-account", __name__, "account")

EVENTS = 10
MAX_DAYS = 36_500
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


LIMITS_LABELS = {limit.field: FieldLabel(limit.label) for limit in LIMIT_FIELDS}
POLICY_LABELS = {"max_days": FieldLabel("Maximum key lifetime in days")}
"""The labels of the page's fields."""


@with_fields((limit.field for limit in LIMIT_FIELDS), Limit)
class LimitsForm(Input):
    """All limits of an account."""


class PolicyForm(Input):
    """The key policy: the maximum lifetime of keys."""

    max_days: Annotated[int, Field(ge=1, le=MAX_DAYS)] | None = None
    existing: bool = False


RAISE_HOURS = (
    ("1", "1 hour"),
    ("6", "6 hours"),
    ("24", "24 hours"),
    ("72", "3 days"),
    (str(limit_raises.MAX_HOURS), "7 days"),
)


@with_fields((f"raised_{limit.field}" for limit in LIMIT_FIELDS), Limit | None)
class RaiseForm(Input):
    """The limits to raise, and for how long. Empty limits are kept."""

    hours: Annotated[int, Field(ge=1, le=limit_raises.MAX_HOURS)] = 24


@blueprint.page("/console/accounts/<account>", OPERATORS)
def show_account(hub_request: HubRequest, account: str) -> AnyResponse:
    return _page(hub_request, account)


def _refill_limits(hub_request: HubRequest, submitted: Mapping[str, str], account: str) -> AnyResponse:
    return _page(hub_request, account, submitted, form="limits")


@blueprint.form("/console/accounts/<account>/limits", OPERATORS, _refill_limits)
def set_limits(hub_request: HubRequest, account: str) -> AnyResponse:
    form, problems = read_form(LimitsForm)
    if form is None:
        return _page(hub_request, account, request.form, problems)
    _find(hub_request, account)
    edit = read_edit(form.model_dump(), LIMITS_LABELS)
    try:
        account_limits.change(
            _operator(hub_request), account, form.model_dump(), lambda found: edit.check(asdict(found))
        )
    except ContradictoryLimits as error:
        return _page(hub_request, account, request.form, {WINDOWS[0]: str(error)})
    return _redirect_with_notice(hub_request, account, "Limits updated. All workers apply them within one second.")


def _refill_raise(hub_request: HubRequest, submitted: Mapping[str, str], account: str) -> AnyResponse:
    return _page(hub_request, account, submitted, form="raise")


@blueprint.form("/console/accounts/<account>/raise", OPERATORS, _refill_raise)
def raise_limits(hub_request: HubRequest, account: str) -> AnyResponse:
    """Raise limits for some hours."""
    given = {f"raised_{name}": request.form.get(f"raised_{name}", "").strip() or None for name in LIMITS_LABELS}
    form, problems = read_form(RaiseForm, **given)
    if form is None:
        return _page(hub_request, account, request.form, problems)
    _find(hub_request, account)
    chosen = form.model_dump()
    values = {name: chosen[f"raised_{name}"] for name in LIMITS_LABELS if chosen[f"raised_{name}"] is not None}
    try:
        raised, logged = limit_raises.raise_limits(_operator(hub_request), account, values, form.hours)
    except (NotARaise, ContradictoryLimits, SystemSchemaBehind) as error:
        field = next((name for name in LIMITS_LABELS if name in values and name in str(error)), WINDOWS[0])
        return _page(hub_request, account, request.form, {f"raised_{field}": str(error)})
    return _redirect_with_notice(
        hub_request, account, f"Limits raised until {moment(raised.ends_at)}. {_applied(logged=logged)}"
    )


@blueprint.form("/console/accounts/<account>/end-raise", OPERATORS)
def end_raise(hub_request: HubRequest, account: str) -> AnyResponse:
    _find(hub_request, account)
    try:
        ended, logged = limit_raises.end(_operator(hub_request), account)
    except SystemSchemaBehind as error:
        return _page(hub_request, account, {}, {"status": str(error)})
    words = "The limits were not raised any more." if ended is None else f"Raise ended. {_applied(logged=logged)}"
    return _redirect_with_notice(hub_request, account, words)


def _applied(*, logged: bool) -> str:
    applied = "All workers apply this within one second."
    if logged:
        return applied
    return f"{applied} The account's database is unavailable: only the operator audit log has this event."


def _refill_policy(hub_request: HubRequest, submitted: Mapping[str, str], account: str) -> AnyResponse:
    return _page(hub_request, account, submitted, form="policy")


@blueprint.form("/console/accounts/<account>/policy", OPERATORS, _refill_policy)
def set_policy(hub_request: HubRequest, account: str) -> AnyResponse:
    form, problems = read_form(
        PolicyForm, max_days=request.form.get("max_days", "").strip() or None, existing="existing" in request.form
    )
    if form is None:
        return _page(hub_request, account, request.form, problems)
    _find(hub_request, account)
    edit = read_edit({"max_days": form.max_days}, POLICY_LABELS, "existing")
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
    keys = f", expiry of {pluralize(shortened, 'key')} shortened" if form.existing else ""
    return _redirect_with_notice(
        hub_request, account, f"Key policy updated{keys}: {describe_change(receipt.as_json())}."
    )


@blueprint.form("/console/accounts/<account>/suspend", OPERATORS)
def suspend(hub_request: HubRequest, account: str) -> AnyResponse:
    return _confirm_and_change(hub_request, account, account_status.suspend, "Suspended")


@blueprint.form("/console/accounts/<account>/archive", OPERATORS)
def archive(hub_request: HubRequest, account: str) -> AnyResponse:
    return _confirm_and_change(hub_request, account, account_status.archive, "Archived")


@blueprint.form("/console/accounts/<account>/resume", OPERATORS)
def resume(hub_request: HubRequest, account: str) -> AnyResponse:
    return _change_status(hub_request, account, account_status.resume, "Resumed", describe_change)


@blueprint.form("/console/accounts/<account>/restore", OPERATORS)
def restore(hub_request: HubRequest, account: str) -> AnyResponse:
    return _change_status(hub_request, account, account_status.restore, "Restored", describe_change)


Verb = Callable[[Operator, str], Receipt]
Describe = Callable[[Mapping[str, Any]], str]


def _confirm_and_change(hub_request: HubRequest, account: str, verb: Verb, done: str) -> AnyResponse:
    if request.form.get("confirm", "").strip() != account:
        field = f"confirm-{verb.__name__}"
        return _page(
            hub_request, account, {}, {field: f"Enter {account} to confirm. All keys of the account will be rejected."}
        )
    return _change_status(hub_request, account, verb, done, describe_revocation)


def _change_status(hub_request: HubRequest, account: str, verb: Verb, done: str, describe: Describe) -> AnyResponse:
    _find(hub_request, account)
    try:
        receipt = verb(_operator(hub_request), account)
    except SystemRefusal as error:
        return _page(hub_request, account, {}, {"status": str(error)})
    return _redirect_with_notice(hub_request, account, f"{done} {account}: {describe(receipt.as_json())}.")


def _operator(hub_request: HubRequest) -> Operator:
    return Operator(hub_request.operator_label, hub_request.services)


def _redirect_with_notice(hub_request: HubRequest, account: str, words: str) -> AnyResponse:
    save_session(hub_request, hub_request.session.with_(notice=words))
    return see_other(f"/console/accounts/{account}")


def _page(
    hub_request: HubRequest,
    account: str,
    submitted: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
    form: str | None = None,
) -> AnyResponse:
    """`form` is the form of the `submitted` values, if it isn't the form of this request."""
    record, row, events = _find(hub_request, account)
    with hub_request.services.directory.database.reading() as session:
        registered = [server for server, _ in servers.listing(session)]
        raised = stored_raises.read(session, account)
    state = server_states(hub_request, registered)[row.server]
    quotas = account_quotas(account, record.limits)
    found = refusals.read(hub_request, record, row.server, state)
    seen = {"limits": seen_of(asdict(record.base_limits)), "policy": seen_of({"max_days": record.max_key_expiry_days})}
    if submitted and SEEN in submitted:  # a form with errors keeps the digests that it was opened with
        seen[form or request.path.rpartition("/")[2]] = submitted[SEEN]
    return render(
        "console/account.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        record=record,
        row=row,
        events=events,
        redis_available=quotas is not None,
        limit_rows=refusals.rows(record, quotas, found.found),
        refusals=found,
        raised=raised,
        raise_hours=RAISE_HOURS,
        server_responds=state.responds is not False,
        seen=seen,
        submitted=submitted or {},
        problems=problems or {},
    )


def _find(hub_request: HubRequest, account: str) -> tuple[AccountRecord, Account, list[OperatorEvent]]:
    """The current account, with its latest events. Raises NotFound."""
    if not is_account_name(account):
        raise NotFound("account")
    database = hub_request.services.directory.database
    with database.reading() as session:
        found = session.execute(record_query().where(Account.account_id == account)).first()
        if found is None:
            raise NotFound("account")
        events = list(operators.listing(session, EVENTS, account=account))
        return record_of(database, found), accounts.read(session, account), events
