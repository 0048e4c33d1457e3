"""The list of all accounts: search, status, order, and usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from urllib.parse import urlencode

from flask import request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from kataven.hub.console.lists import (
    NO_ACCOUNTS,
    AccountSearch,
    ListPosition,
    by_name,
    list_query,
    page_links,
    requested_position,
    searched,
    server_states,
)
from kataven.hub.console.usage import used_today
from kataven.hub.page_blueprint import OPERATORS, HubRequest, PageBlueprint, render
from kataven.hub.server_watch import ServerState
from kataven.system import accounts, limits, servers
from kataven.system.accounts import AccountOrder, AccountPage, AccountPosition
from kataven.system.models import Account, AccountStatus, RegisteredServer

blueprint = PageBlueprint("console", __name__, "account")

HOME = "/console"
PAGE_SIZE = 50
MAX_RANKED = 2_000
"""The number of accounts that can be sorted by a value that is not in the database: one round trip reads all of it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ListOrder(StrEnum):
    """The orders of the list. Numbers and times are in descending order."""

    NAME = "name"
    NEWEST = "created"
    REQUESTS = "requests"
    CONNECTIONS = "connections"


COLUMNS = (
    ("Account", ListOrder.NAME, ""),
    ("Status", None, ""),
    ("Requests today", ListOrder.REQUESTS, "num"),
    ("Connections", ListOrder.CONNECTIONS, "num"),
    ("Size", None, "num"),
    ("Schema", None, ""),
    ("Server", None, ""),
    ("Created", ListOrder.NEWEST, ""),
)
"""The headings, the order that each selects, and its class."""
SORTS = (
    (ListOrder.NAME, "Name"),
    (ListOrder.NEWEST, "Newest"),
    (ListOrder.REQUESTS, "Most requests today"),
    (ListOrder.CONNECTIONS, "Most connections"),
)


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
    connections: int | None
    """None if its server is not responding, or was not queried yet."""
    requests_today: int | None
    """None if Redis is unavailable."""
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StatusChip:
    """A filter with the number of its accounts."""

    label: str
    path: str
    count: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Ranked:
    """A page of accounts that are sorted by a number, the numbers, and why the list is sorted by name instead."""

    page: AccountPage
    values: Mapping[str, int] | None = None
    problem: str | None = None


@blueprint.page(HOME, OPERATORS)
def show_accounts(hub_request: HubRequest) -> AnyResponse:
    search, status, order = searched(), _status(request.args.get("status", "")), _order(request.args.get("sort", ""))
    with hub_request.services.directory.database.reading() as session:
        counts = accounts.count_by_status(session, search.text) if search.can_match else {}
        registered = [server for server, _ in servers.listing(session)]
        listed = _listed(hub_request, session, registered, search, status, order)
        limits_of_shown = limits.of_accounts(session, [account.account_id for account in listed.page.rows])
    states = server_states(hub_request, registered, listed.page.rows)
    return render(
        "console/accounts.html",
        rows=_rows(listed.page.rows, states, used_today(limits_of_shown)),
        chips=_chips(counts, status),
        headings=[(label, _path(sort=by) if by else None, by is order, cell) for label, by, cell in COLUMNS],
        sorts=SORTS,
        order=order,
        problem=listed.problem,
        chosen={"q": search.submitted, "status": status or ""},
        links=page_links(HOME, list_query(), listed.page, listed.values),
    )


def _listed(
    hub_request: HubRequest,
    session: Session,
    registered: Sequence[RegisteredServer],
    search: AccountSearch,
    status: AccountStatus | None,
    order: ListOrder,
) -> Ranked:
    if not search.can_match:
        return Ranked(NO_ACCOUNTS)
    start = requested_position()
    if order is ListOrder.NEWEST:
        found = accounts.page(session, search.text, status, PAGE_SIZE, _by_creation(start), AccountOrder.NEWEST)
        created = {row.account_id: (row.created_at - _EPOCH) // timedelta(microseconds=1) for row in found.rows}
        return Ranked(found, created)
    problem = None
    if order is not ListOrder.NAME:
        matching = accounts.matching(session, search.text, status, MAX_RANKED + 1)
        problem = f"More than {MAX_RANKED:,} accounts match, so they are sorted by name. Narrow the search."
        if len(matching) <= MAX_RANKED:
            values = _values(hub_request, session, registered, matching, order)
            problem = "Redis is unavailable, so the accounts are sorted by name."
            if values is not None:
                return Ranked(_ranked(matching, values, start), values)
    return Ranked(accounts.page(session, search.text, status, PAGE_SIZE, by_name(start)), None, problem)


def _by_creation(start: ListPosition | None) -> AccountPosition | None:
    if start is None or start.value is None:
        return None
    try:
        created_at = _EPOCH + timedelta(microseconds=start.value)
    except OverflowError:
        return None
    return AccountPosition(start.account, created_at, start.backwards)


def _values(
    hub_request: HubRequest,
    session: Session,
    registered: Sequence[RegisteredServer],
    found: Sequence[Account],
    order: ListOrder,
) -> Mapping[str, int] | None:
    """The number by which each account is sorted; None if Redis is unavailable."""
    if order is ListOrder.REQUESTS:
        used = used_today(limits.of_accounts(session, [account.account_id for account in found]))
        return {name: count or 0 for name, count in used.items()} if used or not found else None
    states = server_states(hub_request, registered)
    return {
        account.account_id: states[account.server].connections_by_database.get(account.database_name, 0)
        for account in found
    }


def _ranked(found: Sequence[Account], values: Mapping[str, int], start: ListPosition | None) -> AccountPage:
    """The page at a position. The numbers change between two pages, so it is a position in the order, not an index."""
    ranked = sorted(found, key=lambda account: (-values[account.account_id], account.account_id))
    keys = [(-values[account.account_id], account.account_id) for account in ranked]
    first = 0
    if start is not None:
        here = (-(start.value or 0), start.account)
        if start.backwards:
            first = max(0, sum(key < here for key in keys) - PAGE_SIZE)
        else:
            first = sum(key <= here for key in keys)
    end = first + PAGE_SIZE
    return AccountPage(ranked[first:end], has_previous=first > 0, has_next=end < len(ranked))


def _rows(
    found: Sequence[Account], states: Mapping[str, ServerState], used: Mapping[str, int | None]
) -> list[AccountRow]:
    return [
        AccountRow(
            account.account_id,
            account.account_name,
            account.status,
            account.server,
            states[account.server].responds is not False,
            account.schema_revision,
            states[account.server].sizes.get(account.database_name),
            _connections(states[account.server], account),
            used.get(account.account_id),
            account.created_at,
        )
        for account in found
    ]


def _connections(state: ServerState, account: Account) -> int | None:
    return state.connections_by_database.get(account.database_name, 0) if state.responds else None


def _chips(counts: Mapping[str, int], chosen: AccountStatus | None) -> list[StatusChip]:
    """All accounts that match the search, and each status that one of them has."""
    chips = [StatusChip("All", _path(status=""), sum(counts.values()), chosen is None)]
    chips += [
        StatusChip(status.capitalize(), _path(status=status), counts.get(status, 0), status is chosen)
        for status in AccountStatus
        if counts.get(status) or status is chosen
    ]
    return chips


def _path(**changes: str) -> str:
    """The first page of this list with other parameters."""
    query = {name: value for name, value in {**list_query(), **changes}.items() if value}
    return f"{HOME}?{urlencode(query)}" if query else HOME


def _status(text: str) -> AccountStatus | None:
    return AccountStatus(text) if text in set(AccountStatus) else None


def _order(text: str) -> ListOrder:
    return ListOrder(text) if text in set(ListOrder) else ListOrder.NAME
