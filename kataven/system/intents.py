"""Revocation intents: a row for each revocation, from its commit until its receipt.

If the revoking process dies in between, workers find the row and drop what they have cached for its target.
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
    """Record that `target` is about to be revoked. If the change is in this database, use the same transaction.

    The row of a user's cutoff names the account only, or nothing. If the revoker dies, workers evict more than the
    cutoff covers.
    """
    row = insert(RevocationIntent).values(account=target.account, key_id=target.key_id)
    intent: UUID = session.execute(row.returning(RevocationIntent.id)).scalar_one()
    return intent


def remove(session: Session, done: Sequence[UUID]) -> None:
    """Delete the given intents, which have their receipts, and those that are too old to be completed."""
    session.execute(delete(RevocationIntent).where(or_(RevocationIntent.id.in_(done), _too_old)))


def overdue(age: ColumnElement[timedelta]) -> ScalarSelect[object]:
    """The targets of intents older than `age`, as pairs of account and key; NULL if none exists."""
    pair = func.jsonb_build_array(RevocationIntent.account, RevocationIntent.key_id)
    return select(func.jsonb_agg(pair)).where(_age > age, ~_too_old).scalar_subquery()
