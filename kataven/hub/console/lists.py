"""Shared by the lists of the console: search, pagination, and the status of database servers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import request
from sqlalchemy.orm import Session

from kataven.hub.page_blueprint import HubRequest
from kataven.hub.server_watch import ServerState
from kataven.hub.session_middleware import hub_services
from kataven.identity.token import is_account_name
from kataven.system import accounts
from kataven.system.accounts import AccountPage, AccountPosition
from kataven.system.addresses import address_of
from kataven.system.models import Account, AccountStatus, RegisteredServer

MAX_TEXT_LENGTH = 200
NO_ACCOUNTS = AccountPage((), has_previous=False, has_next=False)


@dataclass(frozen=True, slots=True)
class AccountSearch:
    """A search or filter term."""

    submitted: str
    """As entered. The search field shows it again."""

    @property
    def text(self) -> str:
        return self.submitted.strip()

    @property
    def can_match(self) -> bool:
        """Whether a row can contain the term. PostgreSQL stores no NUL, and no name is longer than the limit."""
        return "\x00" not in self.text and len(self.text) <= MAX_TEXT_LENGTH


def searched(field: str = "q") -> AccountSearch:
    """The term in the query parameter `field`."""
    return AccountSearch(request.args.get(field, ""))


@dataclass(frozen=True, slots=True)
class ListPosition:
    """The account after which a page starts, or before which it ends, with the value by which the list is sorted."""

    account: str
    value: int | None = None
    backwards: bool = False


def requested_position() -> ListPosition | None:
    """The position of the requested page. None, the first page, if it is missing or malformed."""
    for name, backwards in (("after", False), ("before", True)):
        found = re.fullmatch(r"(?:(\d{1,18})~)?([^~]+)", request.args.get(name, ""), re.ASCII)
        if found is not None and is_account_name(found[2]):
            return ListPosition(found[2], None if found[1] is None else int(found[1]), backwards)
    return None


def account_page(session: Session, search: AccountSearch, status: AccountStatus | None, size: int) -> AccountPage:
    """The requested page of accounts, by name."""
    if not search.can_match:
        return NO_ACCOUNTS
    return accounts.page(session, search.text, status, size, by_name(requested_position()))


def by_name(start: ListPosition | None) -> AccountPosition | None:
    """A position in the list that is ordered by name."""
    return None if start is None else AccountPosition(start.account, backwards=start.backwards)


def page_links(
    path: str, query: Mapping[str, str], page: AccountPage, values: Mapping[str, int] | None = None
) -> dict[str, str]:
    """Links to the previous and next page, if they exist. `values`: by which the list is sorted, if not by name."""

    def link(name: str, row: Account) -> str:
        value = "" if values is None else f"{values[row.account_id]}~"
        return f"{path}?{urlencode({**query, name: f'{value}{row.account_id}'})}"

    found = {}
    if page.has_previous and page.rows:
        found["previous"] = link("before", page.rows[0])
    if page.has_next:
        found["next"] = link("after", page.rows[-1])
    return found


def list_query() -> dict[str, str]:
    """The query of this request without the pagination parameters."""
    return {name: value for name, value in request.args.items() if name not in {"after", "before"} and value}


def server_states(
    hub_request: HubRequest, servers: Sequence[RegisteredServer], shown: Sequence[Account] = ()
) -> Mapping[str, ServerState]:
    """The status of each server of `servers.listing`, with the database sizes of the accounts that are shown."""
    database = hub_request.services.directory.database
    databases: defaultdict[str, list[str]] = defaultdict(list)
    for account in shown:
        databases[account.server].append(account.database_name)
    urls = {server.name: address_of(database, server.url, server.direct_url).past_pooler for server in servers}
    return hub_services().servers.states(urls, databases)
