"""An account's own rate limits; the product's defaults where it has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from kataven.ratelimit.policy import Limits, contradictions
from kataven.system import accounts
from kataven.system.errors import ContradictoryLimits
from kataven.system.models import AccountRateLimits

COLUMNS = ("per_minute", "per_hour", "per_day", "concurrent")


def limits_of(row: AccountRateLimits | Row[*tuple[Any, ...]] | None) -> Limits:
    """The limits that a row means; no row means the defaults."""
    if row is None:
        return Limits()
    return Limits(**{column: getattr(row, column) for column in COLUMNS})


Condition = Callable[[Limits], None]


def change(session: Session, account: str, given: Mapping[str, int], condition: Condition | None = None) -> Limits:
    """Set some limits and keep the others, if the condition holds for the limits of the locked account.

    Raises NoSuchAccount, ContradictoryLimits, ValueError for what can't be a limit, and what the condition raises.
    """
    limits = write(session, account, given, condition)
    problems = tuple(contradictions(limits, given))
    if problems:
        raise ContradictoryLimits(problems)
    return limits


def write(session: Session, account: str, given: Mapping[str, int], condition: Condition | None = None) -> Limits:
    """The same, also for limits that contradict each other: those of a dump are older than that rule."""
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
