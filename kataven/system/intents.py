"""Revocations that are about to be committed, each a row until its receipt is out.

If the revoker dies in between, workers find the row and forget what it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kataven.revocation.fallback.channel import INTENT_SECONDS
from kataven.revocation.target import RevocationTarget
from kataven.system.models import RevocationIntent

_age = func.clock_timestamp() - RevocationIntent.begun_at
_too_old = _age > timedelta(seconds=INTENT_SECONDS)


def add(session: Session, target: RevocationTarget) -> UUID:
    """Write down that `scope` is about to be revoked; in the same transaction as the change, where both are here."""
    row = insert(RevocationIntent).values(account=target.account, key_id=target.key_id)
    intent: UUID = session.execute(row.returning(RevocationIntent.id)).scalar_one()
    return intent


def remove(session: Session, done: Sequence[UUID]) -> None:
    """Drop those that have their receipts, and those that nobody can complete any more."""
    session.execute(delete(RevocationIntent).where(or_(RevocationIntent.id.in_(done), _too_old)))


def overdue(age: ColumnElement[timedelta]) -> ScalarSelect[object]:
    """What those cover that were begun longer ago than `patience`: pairs of account and key, or NULL for none."""
    pair = func.jsonb_build_array(RevocationIntent.account, RevocationIntent.key_id)
    return select(func.jsonb_agg(pair)).where(_age > age, ~_too_old).scalar_subquery()
