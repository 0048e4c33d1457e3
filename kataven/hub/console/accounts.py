"""The list of all accounts: search, status, and the form that creates an account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from flask import request
from pydantic import StringConstraints
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.console.lists import account_page, list_query, page_links, searched, server_states
from kataven.hub.console.usage import used_today
from kataven.hub.formatting import pluralize
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, read_form, render, see_other
from kataven.hub.server_watch import ServerState
from kataven.hub.session_middleware import save_session
from kataven.operations import account_creation
from kataven.operations.operator import Operator
from kataven.ratelimit.policy import Limits
from kataven.system import accounts, servers
from kataven.system.directory import record_of, record_query
from kataven.system.errors import SystemRefusal
from kataven.system.models import Account, AccountStatus
from kataven.tenancy.errors import InvalidAccountName, TenancyError
from kataven.validation import Shaped
from kataven.web.schema import Input, SingleLine

blueprint = PageBlueprint("console", __name__, "account")

PAGE_SIZE = 50


class NewAccountForm(Input):
    """The form that creates an account."""

    account: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    name: Annotated[str, SingleLine(200)]
    org_id: Annotated[str, Shaped(r"^[!-~]*$", "must be an organisation ID without spaces", 200)] = ""
    server: Annotated[str, StringConstraints(max_length=63)] = ""
    discoverable: bool = False


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account in the list."""

    account: str
    name: str
    status: str
    server: str
    server_responds: bool
    revision: str | None
    bytes: int | None
    """None if unknown: its server is not responding, or was not queried yet."""
    requests_today: int | None
    """None if Redis is unavailable."""


@blueprint.page("/console", OPERATORS)
def show_accounts(hub_request: HubRequest) -> AnyResponse:
    return _list(hub_request)


def _refill(hub_request: HubRequest, submitted: Mapping[str, str]) -> AnyResponse:
    return _list(hub_request, submitted)


@blueprint.form("/console/accounts", OPERATORS, _refill)
def create_account(hub_request: HubRequest) -> AnyResponse:
    form, problems = read_form(NewAccountForm, discoverable="discoverable" in request.form)
    if form is None:
        return _list(hub_request, request.form, problems)
    new = account_creation.NewAccount(
        form.account, form.name, form.org_id or None, form.server or None, form.discoverable
    )
    try:
        account_creation.create_account(Operator(hub_request.operator_label, hub_request.services), new)
    except (SystemRefusal, TenancyError, InvalidAccountName) as error:
        return _list(hub_request, request.form, {"account": str(error)})
    save_session(hub_request, hub_request.session.with_(notice=f"Created account “{form.account}”."))
    return see_other(f"/console/accounts/{form.account}")


def _list(
    hub_request: HubRequest, submitted: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    search, status = searched(), _status(request.args.get("status", ""))
    with hub_request.services.directory.database.reading() as session:
        page = account_page(session, search, status, PAGE_SIZE)
        counts = accounts.count_by_status(session)
        registered = servers.listing(session)
    return render(
        "console/accounts.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        rows=_rows(hub_request, page.rows, server_states(hub_request, [server for server, _ in registered], page.rows)),
        counts=counts,
        statuses=list(AccountStatus),
        chosen={"q": search.submitted, "status": status or ""},
        links=page_links("/console", list_query(), page),
        servers=[
            ("", "Least loaded"),
            *((s.name, f"{s.name} ({pluralize(n, 'account')})") for s, n in registered if not s.draining),
        ],
        submitted=submitted or {},
        problems=problems or {},
    )


def _rows(hub_request: HubRequest, found: Sequence[Account], states: Mapping[str, ServerState]) -> list[AccountRow]:
    used = used_today(_limits(hub_request, found))
    return [
        AccountRow(
            account.account_id,
            account.account_name,
            account.status,
            account.server,
            states[account.server].responds is not False,
            account.schema_revision,
            states[account.server].sizes.get(account.database_name),
            used.get(account.account_id),
        )
        for account in found
    ]


def _limits(hub_request: HubRequest, found: Sequence[Account]) -> dict[str, Limits]:
    database = hub_request.services.directory.database
    with database.reading() as session:
        names = [account.account_id for account in found]
        rows = session.execute(record_query().where(Account.account_id.in_(names)))
        return {row.account_id: record_of(database, row).limits for row in rows}


def _status(text: str) -> AccountStatus | None:
    return AccountStatus(text) if text in set(AccountStatus) else None
