"""Every account: found, made, and how each one stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from flask import request
from pydantic import StringConstraints
from sqlalchemy.exc import DBAPIError
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.console.usage import used_today
from kataven.hub.gate import keep
from kataven.hub.page import OPERATORS, Desk, Visit, go, read_form, show
from kataven.identity.token import is_account_name
from kataven.ratelimit.policy import Limits
from kataven.system import accounts, lifecycle, servers
from kataven.system.directory import record_of, record_query, tenant_url
from kataven.system.errors import SystemRefusal
from kataven.system.models import Account, AccountStatus
from kataven.tenancy.errors import TenancyError
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.wire import ConnectionSettings
from kataven.validation import Shaped
from kataven.web import operating
from kataven.web.schema import Input, Line

desk = Desk("console", __name__, "account")

PAGE_SIZE = 50
IMPATIENT = ConnectionSettings(application_name="kataven console", connect_timeout_seconds=2)


class NewAccountForm(Input):
    """What is asked of whoever makes an account."""

    account: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    name: Annotated[str, Line(200)]
    org_id: Annotated[str, Shaped(r"^[!-~]*$", "must be an organization's id, without blanks", 200)] = ""
    server: Annotated[str, StringConstraints(max_length=63)] = ""
    discoverable: bool = False


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account as the list shows it."""

    account: str
    name: str
    status: str
    server: str
    revision: str | None
    bytes: int | None
    """None if its server can't be asked."""
    requests_today: int | None
    """None if Redis can't say."""


@desk.shows("/console", OPERATORS)
def show_accounts(visit: Visit) -> AnyResponse:
    return _list(visit)


@desk.takes("/console/accounts", OPERATORS)
def make_account(visit: Visit) -> AnyResponse:
    form, problems = read_form(NewAccountForm, discoverable="discoverable" in request.form)
    if form is None:
        return _list(visit, request.form, problems)
    new = lifecycle.NewAccount(form.account, form.name, form.org_id or None, form.server or None, form.discoverable)
    try:
        operating.create_account(visit.services, new, visit.operator_label)
    except (SystemRefusal, TenancyError) as error:
        return _list(visit, request.form, {"account": str(error)})
    keep(visit, visit.session.with_(notice=f"Account “{form.account}” is made."))
    return go(f"/console/accounts/{form.account}")


def _list(
    visit: Visit, typed: Mapping[str, str] | None = None, problems: Mapping[str, str] | None = None
) -> AnyResponse:
    prefix, after = _name(request.args.get("q")) or "", _name(request.args.get("after"))
    status = _status(request.args.get("status", ""))
    with visit.services.directory.database.reading() as session:
        found = accounts.page(session, prefix, status, PAGE_SIZE + 1, after)
        counts = accounts.count_by_status(session)
        places = servers.listing(session)
    rows = _rows(visit, found[:PAGE_SIZE])
    more = {**request.args.to_dict(), "after": rows[-1].account} if len(found) > PAGE_SIZE else None
    return show(
        "console/accounts.html",
        HTTPStatus.BAD_REQUEST if problems else HTTPStatus.OK,
        rows=rows,
        counts=counts,
        statuses=list(AccountStatus),
        chosen={"q": prefix, "status": status or ""},
        more=more and f"/console?{urlencode(more)}",
        servers=[("", "The least loaded"), *((s.name, f"{s.name} ({n})") for s, n in places if not s.draining)],
        typed=typed or {},
        problems=problems or {},
    )


def _rows(visit: Visit, found: Sequence[Account]) -> list[AccountRow]:
    sizes = _sizes(visit, found)
    limits = _limits(visit, found)
    return [
        AccountRow(
            account.account_id,
            account.account_name,
            account.status,
            account.server,
            account.schema_revision,
            sizes.get(account.account_id),
            used_today(account.account_id, limits[account.account_id]),
        )
        for account in found
    ]


def _limits(visit: Visit, found: Sequence[Account]) -> dict[str, Limits]:
    database = visit.services.directory.database
    with database.reading() as session:
        names = [account.account_id for account in found]
        rows = session.execute(record_query().where(Account.account_id.in_(names)))
        return {row.account_id: record_of(database.url, row).limits for row in rows}


def _sizes(visit: Visit, found: Sequence[Account]) -> dict[str, int]:
    """One query for each server; of one that can't be asked, nothing is known."""
    database = visit.services.directory.database
    with database.reading() as session:
        urls = {server.name: tenant_url(database.url, server.url, "postgres") for server, _ in servers.listing(session)}
    by_server: defaultdict[str, list[Account]] = defaultdict(list)
    for account in found:
        by_server[account.server].append(account)
    sizes: dict[str, int] = {}
    for name, there in by_server.items():
        try:
            with DatabaseServer(urls[name], IMPATIENT).maintenance() as maintenance:
                measured = maintenance.sizes([account.database_name for account in there])
        except DBAPIError:
            continue
        sizes.update({a.account_id: measured[a.database_name] for a in there if a.database_name in measured})
    return sizes


def _name(text: str | None) -> str | None:
    """What may be the name of an account, or how one begins."""
    return text if text and is_account_name(text) else None


def _status(text: str) -> AccountStatus | None:
    return AccountStatus(text) if text in set(AccountStatus) else None
