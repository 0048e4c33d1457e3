"""Temporary raises of an account's rate limits. A raise ends automatically.

The end is part of the account's record, which workers cache for up to 30 s. Each worker compares it with its clock on
every request, so a raise ends at the same moment in all workers, without an event and without a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Float, Row, cast, column, func, literal_column, null, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from kataven.ratelimit.policy import LIMIT_FIELDS, MAX_LIMIT, Limits, contradictions
from kataven.system import accounts, limits
from kataven.system.errors import ContradictoryLimits, NotARaise, SystemSchemaBehind
from kataven.system.models import Account, AccountRateLimits
from kataven.system.schema import system_has, system_revision

SINCE = "system_0012"

# Through JSON, because a system database before `system_0012` lacks the columns, and workers must serve with it.
_ROW = func.to_jsonb(literal_column("accounts"))
RAISED_LIMITS = cast(_ROW.op("->")("raised_limits"), JSONB).label("raised_limits")
RAISED_UNTIL = _ROW.op("->>")("limits_raised_until").label("limits_raised_until")
# The database's clock: the clocks of workers may differ.
RAISED_SECONDS = cast(
    func.extract("epoch", literal_column("(to_jsonb(accounts) ->> 'limits_raised_until')::timestamptz"))
    - func.extract("epoch", func.clock_timestamp()),
    Float,
).label("raised_seconds")
COLUMNS = (RAISED_LIMITS, RAISED_SECONDS)
"""Columns of queries that select from Account, for `raised_of`."""


@dataclass(frozen=True, slots=True)
class RaisedLimits:
    """The limits during a raise, and when it ends on this process's monotonic clock."""

    limits: Limits
    until: float


@dataclass(frozen=True, slots=True)
class LimitRaise:
    """A raise that has not ended."""

    values: Mapping[str, int]
    """The raised limits, by the names of `Limits`."""
    ends_at: datetime


def with_raise(base: Limits, values: Mapping[str, int]) -> Limits:
    """`base`, with the limits that `values` raises. Lower and unknown values are ignored."""
    raised = {
        name: min(values[name], MAX_LIMIT)
        for name, least in asdict(base).items()
        if isinstance(values.get(name), int) and values[name] > least
    }
    return replace(base, **raised)


def raised_of(row: Row[*tuple[Any, ...]], base: Limits, clock: Callable[[], float]) -> RaisedLimits | None:
    """The raise in a row with `COLUMNS`; None if there is none, or if it has ended."""
    if not row.raised_limits or row.raised_seconds is None or row.raised_seconds <= 0:
        return None
    return RaisedLimits(with_raise(base, row.raised_limits), clock() + row.raised_seconds)


def read(session: Session, account: str) -> LimitRaise | None:
    """The current raise of an account, if it has not ended."""
    row = session.execute(
        select(RAISED_LIMITS, RAISED_UNTIL, RAISED_SECONDS).where(Account.account_id == account)
    ).first()
    if row is None or not row.raised_limits or row.raised_seconds <= 0:
        return None
    return LimitRaise(row.raised_limits, datetime.fromisoformat(row.limits_raised_until))


def raise_for(session: Session, account: str, values: Mapping[str, int], duration: timedelta) -> LimitRaise:
    """Raise limits until `duration` from now. Replaces a previous raise.

    Raises NoSuchAccount, NotARaise, ContradictoryLimits or SystemSchemaBehind.
    """
    _require(session)
    accounts.read(session, account, lock=True)
    base = limits.limits_of(session.get(AccountRateLimits, account))
    if not values:
        raise NotARaise("Enter at least one limit that is higher than the current one.")
    for limit in LIMIT_FIELDS:
        least = getattr(base, limit.field)
        if limit.field in values and values[limit.field] <= least:
            raise NotARaise(
                f"{limit.field} is {least}, so a raise to {values[limit.field]} changes nothing. Enter a higher value."
            )
    raised = replace(base, **values)
    if problems := list(contradictions(raised, values)):
        raise ContradictoryLimits(problems)
    ends_at = session.scalar(select(func.clock_timestamp() + duration))
    _write(session, account, dict(values), ends_at)
    assert ends_at is not None  # noqa: S101  a query of one value
    return LimitRaise(dict(values), ends_at)


def end(session: Session, account: str) -> LimitRaise | None:
    """End the raise of an account. Returns it, or None if no raise was in effect. Raises NoSuchAccount or
    SystemSchemaBehind."""
    _require(session)
    accounts.read(session, account, lock=True)
    ended = read(session, account)
    _write(session, account, None, None)
    return ended


def _write(session: Session, account: str, values: Mapping[str, int] | None, ends_at: datetime | None) -> None:
    session.execute(
        update(Account)
        .where(Account.account_id == account)
        .values({column("raised_limits"): null() if values is None else values, column("limits_raised_until"): ends_at})
    )


def _require(session: Session) -> None:
    if not system_has(session, SINCE):
        raise SystemSchemaBehind(system_revision(session), SINCE)
