"""An account's own rate limits; the product's defaults where it has none."""

from __future__ import annotations

from collections.abc import Mapping
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


def change(session: Session, account: str, given: Mapping[str, int]) -> Limits:
    """Set some limits and keep the others.

    Raises NoSuchAccount, ContradictoryLimits, or ValueError for what can't be a limit.
    """
    limits = write(session, account, given)
    problems = tuple(contradictions(limits, given))
    if problems:
        raise ContradictoryLimits(problems)
    return limits


def write(session: Session, account: str, given: Mapping[str, int]) -> Limits:
    """The same, also for limits that contradict each other: those of a dump are older than that rule."""
    accounts.read(session, account, lock=True)
    row = session.get(AccountRateLimits, account)
    limits = replace(limits_of(row), **given)
    if row is None:
        row = AccountRateLimits(account_id=account)
        session.add(row)
    for column, value in asdict(limits).items():
        setattr(row, column, value)
    return limits
