"""The rate limits of an account; without a row, the defaults apply."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from kataven.ratelimit.policy import LIMIT_FIELDS, Limits, contradictions
from kataven.system import accounts
from kataven.system.errors import ContradictoryLimits
from kataven.system.models import AccountRateLimits

COLUMNS = tuple(limit.field for limit in LIMIT_FIELDS)


def limits_of(row: AccountRateLimits | Row[*tuple[Any, ...]] | None) -> Limits:
    """Convert a row. The defaults apply if it is None, and for columns that are NULL: an outer join without a match."""
    values = {} if row is None else {column: getattr(row, column) for column in COLUMNS}
    return Limits(**{column: value for column, value in values.items() if value is not None})


def of_accounts(session: Session, names: Collection[str]) -> dict[str, Limits]:
    """The limits of each named account, in one query."""
    rows = session.scalars(select(AccountRateLimits).where(AccountRateLimits.account_id.in_(names)))
    own = {row.account_id: limits_of(row) for row in rows}
    return {name: own.get(name) or Limits() for name in names}


Condition = Callable[[Limits], None]


def change(session: Session, account: str, given: Mapping[str, int], condition: Condition | None = None) -> Limits:
    """Change the given limits and keep the others. `condition` is called with the limits of the locked account.

    Raises NoSuchAccount, ContradictoryLimits, ValueError if a value is out of range, and what `condition` raises.
    """
    limits = write(session, account, given, condition)
    problems = tuple(contradictions(limits, given))
    if problems:
        raise ContradictoryLimits(problems)
    return limits


def write(session: Session, account: str, given: Mapping[str, int], condition: Condition | None = None) -> Limits:
    """`change` without the check for inconsistent limits, because the limits in a dump may predate that check."""
    accounts.read(session, account, lock=True)
    row = session.get(AccountRateLimits, account)
    if condition is not None:
        condition(limits_of(row))
    limits = replace(limits_of(row), **given)
    if row is None:
        row = AccountRateLimits(account_id=account)
        session.add(row)
    for column, value in asdict(limits).items():
        setattr(row, column, value)
    return limits
