"""The rows of accounts: create, find, count, change their status. `operations` also changes their databases."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, func, literal, or_, select, true, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session

from kataven.system.errors import AccountExists, NoSuchAccount, WrongStatus
from kataven.system.models import Account, AccountStatus

T = TypeVar("T")


def reserve(session: Session, account: Account) -> None:
    """Add a row with the status `provisioning`. Raises AccountExists."""
    account.status = AccountStatus.PROVISIONING
    session.add(account)
    try:
        session.flush()
    except IntegrityError:
        raise AccountExists(account.account_id) from None


def read(session: Session, account: str, *, lock: bool = False) -> Account:
    """Raises NoSuchAccount."""
    found = session.get(Account, account, with_for_update=lock or None)
    if found is None:
        raise NoSuchAccount(account)
    return found


def exists(session: Session, account: str) -> bool:
    """Whether an account with this name exists, whatever its status."""
    return session.get(Account, account) is not None


def move(session: Session, account: str, to: AccountStatus, *allowed: AccountStatus) -> Account:
    """Set the status to `to`. Raises NoSuchAccount, or WrongStatus if the current status is not one of `allowed`."""
    found = read(session, account, lock=True)
    if found.status not in allowed:
        raise WrongStatus(account, found.status, " or ".join(allowed))
    found.status = to
    return found


def listing(session: Session) -> Sequence[Account]:
    """All accounts, ordered by name."""
    return session.scalars(select(Account).order_by(Account.account_id)).all()


@dataclass(frozen=True, slots=True)
class ListedAccount:
    """What a list shows of an account."""

    account: str
    name: str
    status: str
    server: str
    revision: str | None
    created_at: datetime


def summaries(session: Session, status: AccountStatus | None = None) -> Iterator[ListedAccount]:
    """All accounts, or those with one status, ordered by name. Reads columns: entities take several times as long."""
    statement = select(
        Account.account_id,
        Account.account_name,
        Account.status,
        Account.server,
        Account.schema_revision,
        Account.created_at,
    ).order_by(Account.account_id)
    if status is not None:
        statement = statement.where(Account.status == status)
    return (ListedAccount(*row) for row in session.execute(statement))


class AccountOrder(StrEnum):
    """The orders in which the database can list accounts."""

    NAME = "name"
    NEWEST = "created"


@dataclass(frozen=True, slots=True)
class AccountPosition:
    """The account after which a page starts, or before which it ends."""

    account: str
    created_at: datetime | None = None
    """Used by `AccountOrder.NEWEST` only."""
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class AccountPage:
    """One page of accounts, and whether a previous and a next page exist."""

    rows: Sequence[Account]
    has_previous: bool
    has_next: bool


def page(
    session: Session,
    text: str,
    status: AccountStatus | None,
    limit: int,
    start: AccountPosition | None = None,
    order: AccountOrder = AccountOrder.NAME,
) -> AccountPage:
    """A page of up to `limit` accounts with the given status.

    Only accounts whose id, name or Zitadel organisation contains `text`, ignoring case.
    """
    found = _matching(text, status).limit(limit + 1)
    if start is not None and start.backwards:
        rows = session.scalars(_from(found, order, start)).all()
        if len(rows) > limit:
            return AccountPage(rows[:limit][::-1], has_previous=True, has_next=True)
        start = None  # fewer than a full page precedes the position, so this is the first page
    rows = session.scalars(_from(found, order, start)).all()
    return AccountPage(rows[:limit], has_previous=start is not None, has_next=len(rows) > limit)


@dataclass(frozen=True, slots=True)
class AccountLocation:
    """The database of an account."""

    account: str
    server: str
    database: str


def locations(session: Session, text: str, status: AccountStatus | None, limit: int) -> Sequence[AccountLocation]:
    """Up to `limit` of the accounts that `page` finds, in any order. Loading whole rows would take much longer."""
    columns = (Account.account_id, Account.server, Account.database_name)
    found = _matching(text, status).with_only_columns(*columns).limit(limit)
    return [AccountLocation(*row) for row in session.execute(found)]


def named(session: Session, names: Sequence[str]) -> Sequence[Account]:
    """These accounts, in this order. Accounts that do not exist are omitted."""
    found = {row.account_id: row for row in session.scalars(select(Account).where(Account.account_id.in_(names)))}
    return [found[name] for name in names if name in found]


def _matching(text: str, status: AccountStatus | None) -> Select[Account]:
    found = select(Account).where(_contains(text))
    return found if status is None else found.where(Account.status == status)


def _contains(text: str) -> ColumnElement[bool]:
    if not text:
        return true()
    columns = (Account.account_id, Account.account_name, Account.zitadel_org_id)
    return or_(*(column.icontains(text, autoescape=True) for column in columns))


def _from(found: Select[Account], order: AccountOrder, start: AccountPosition | None) -> Select[Account]:
    """`found`, in order, from the position on; in reverse order if it is a position backwards."""
    descending = order is AccountOrder.NEWEST
    if start is not None and start.backwards:
        descending = not descending
    columns: Sequence[ColumnElement[Any]] = [Account.account_id.expression]
    if order is AccountOrder.NEWEST:
        columns = [Account.created_at.expression, *columns]
    if start is not None:
        values = [start.account] if order is AccountOrder.NAME else [start.created_at, start.account]
        key, here = tuple_(*columns), tuple_(*(literal(value) for value in values))
        found = found.where(key < here if descending else key > here)
    return found.order_by(*(column.desc() if descending else column for column in columns))


def count_by_status(session: Session, text: str = "") -> Mapping[str, int]:
    """The number of accounts per status, of those whose id, name or Zitadel organisation contains `text`."""
    return dict(_counted(session, Account.status, _contains(text)))


def count_by_revision(session: Session) -> Mapping[str | None, int]:
    """The number of accounts per schema revision, as last recorded."""
    return dict(_counted(session, Account.schema_revision))


def count_by_server(session: Session, names: Collection[str]) -> Mapping[str, int]:
    """The number of the named accounts per server. Without names, no query is sent."""
    if not names:
        return {}
    counted = (
        select(Account.server, func.count().label("accounts"))
        .where(Account.account_id.in_(names))
        .group_by(Account.server)
    )
    return {row.server: row.accounts for row in session.execute(counted)}


def discoverable(session: Session, prefix: str, limit: int, after: str | None) -> Sequence[Account]:
    """Active, discoverable accounts after the name `after`, ordered by name."""
    statement = (
        select(Account)
        .where(Account.discoverable, Account.status == AccountStatus.ACTIVE)
        .where(Account.account_id.startswith(prefix, autoescape=True))
        .order_by(Account.account_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(Account.account_id > after)
    return session.scalars(statement).all()


def of_organisations(session: Session, org_ids: Collection[str]) -> Sequence[str]:
    """The names of these Zitadel organisations' accounts, in order, including suspended and archived ones."""
    known = (AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED)
    statement = select(Account.account_id).where(Account.zitadel_org_id.in_(org_ids), Account.status.in_(known))
    return session.scalars(statement.order_by(Account.account_id)).all()


def outside(session: Session, revisions: Collection[str]) -> int:
    """The number of active accounts whose recorded schema revision is not one of these."""
    statement = select(func.count()).where(
        Account.status == AccountStatus.ACTIVE, Account.schema_revision.not_in(revisions)
    )
    return session.scalar(statement) or 0


def _counted(
    session: Session, column: InstrumentedAttribute[T], *where: ColumnElement[bool]
) -> Sequence[tuple[T, int]]:
    counted = session.execute(select(column, func.count()).where(*where).group_by(column).order_by(column))
    return [(value, count) for value, count in counted]
