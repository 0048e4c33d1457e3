"""Accounts as rows: create, find, change their status. What becomes of their databases is `lifecycle`'s work."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session

from kataven.system.errors import AccountExists, NoSuchAccount, WrongStatus
from kataven.system.models import Account, AccountStatus

T = TypeVar("T")


def reserve(session: Session, account: Account) -> None:
    """Add a row in `provisioning`. Raises AccountExists."""
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
    """Whether there is an account of this name, in whatever status."""
    return session.get(Account, account) is not None


def move(session: Session, account: str, to: AccountStatus, *allowed: AccountStatus) -> Account:
    """Change an account's status, if it is one of `allowed` now. Raises NoSuchAccount or WrongStatus."""
    found = read(session, account, lock=True)
    if found.status not in allowed:
        raise WrongStatus(account, found.status, " or ".join(allowed))
    found.status = to
    return found


def listing(session: Session, status: AccountStatus | None = None) -> Sequence[Account]:
    """Every account, by name."""
    statement = select(Account).order_by(Account.account_id)
    if status is not None:
        statement = statement.where(Account.status == status)
    return session.scalars(statement).all()


@dataclass(frozen=True, slots=True)
class NamePage:
    """Some accounts, by name, and whether there are others before and after them."""

    rows: Sequence[Account]
    has_previous: bool
    has_next: bool


def page(
    session: Session,
    text: str,
    status: AccountStatus | None,
    limit: int,
    *,
    after: str | None = None,
    before: str | None = None,
) -> NamePage:
    """Accounts by name whose id, name or Zitadel organisation contains `text`, in any case, optionally of one status.

    `limit` of them from behind `after`, or up to `before`.
    """
    found = select(Account).limit(limit + 1)
    if text:
        columns = (Account.account_id, Account.account_name, Account.zitadel_org_id)
        found = found.where(or_(*(column.icontains(text, autoescape=True) for column in columns)))
    if status is not None:
        found = found.where(Account.status == status)
    if before is not None:
        backwards = found.where(Account.account_id < before).order_by(Account.account_id.desc())
        rows = session.scalars(backwards).all()
        if len(rows) > limit:
            return NamePage(rows[:limit][::-1], has_previous=True, has_next=True)
        after = None  # the first page, and a whole one
    if after is not None:
        found = found.where(Account.account_id > after)
    rows = session.scalars(found.order_by(Account.account_id)).all()
    return NamePage(rows[:limit], has_previous=after is not None, has_next=len(rows) > limit)


def count_by_status(session: Session) -> Mapping[str, int]:
    """How many accounts there are of each status."""
    return dict(_counted(session, Account.status))


def count_by_revision(session: Session) -> Mapping[str | None, int]:
    """How many accounts are at each schema revision, as it was last written down."""
    return dict(_counted(session, Account.schema_revision))


def count_by_server(session: Session, names: Collection[str]) -> Mapping[str, int]:
    """How many of these accounts each server has. Asks nothing if there are none."""
    if not names:
        return {}
    counted = (
        select(Account.server, func.count().label("accounts"))
        .where(Account.account_id.in_(names))
        .group_by(Account.server)
    )
    return {row.server: row.accounts for row in session.execute(counted)}


def discoverable(session: Session, prefix: str, limit: int, after: str | None) -> Sequence[Account]:
    """Active accounts that chose to be found, by name, from behind `after`."""
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
    """The names of the accounts that these Zitadel organisations have, in order; also of suspended ones."""
    known = (AccountStatus.ACTIVE, AccountStatus.SUSPENDED, AccountStatus.ARCHIVED)
    statement = select(Account.account_id).where(Account.zitadel_org_id.in_(org_ids), Account.status.in_(known))
    return session.scalars(statement.order_by(Account.account_id)).all()


def outside(session: Session, revisions: Collection[str]) -> int:
    """How many active accounts are at none of these schema revisions."""
    statement = select(func.count()).where(
        Account.status == AccountStatus.ACTIVE, Account.schema_revision.not_in(revisions)
    )
    return session.scalar(statement) or 0


def _counted(session: Session, column: InstrumentedAttribute[T]) -> Sequence[tuple[T, int]]:
    counted = session.execute(select(column, func.count()).group_by(column).order_by(column))
    return [(value, count) for value, count in counted]
