"""Who did what, when, from where: one event for each thing that changes, in the transaction that changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from kataven.account.models import AuditEvent
from kataven.account.paging import Page, Position, newest_first

LONGEST_TRANSACTION = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Actor:
    """On whose behalf a verb runs."""

    label: str
    name: str
    request_id: str | None = None
    address: str | None = None


def record(
    session: Session, actor: Actor, action: str, target: object = None, detail: Mapping[str, Any] | None = None
) -> AuditEvent:
    """Add an event such as `api_key.created`. `detail` must hold no secret."""
    event = AuditEvent(
        actor=actor.label,
        actor_name=actor.name,
        action=action,
        target=None if target is None else str(target),
        detail=dict(detail or {}),
        request_id=actor.request_id,
        address=actor.address,
    )
    session.add(event)
    return event


def add_detail(session: Session, event_id: UUID, detail: Mapping[str, Any]) -> None:
    """Complete an event with what was known only after its transaction, such as a revocation's receipt."""
    event = session.get_one(AuditEvent, event_id)
    event.detail = {**event.detail, **detail}


def without_receipt(session: Session, action: str, target: object, ended_at: datetime) -> UUID | None:
    """The event of this kind that was committed when `target` ended, if its revoker was cut off before its receipt."""
    events = select(AuditEvent).where(
        AuditEvent.action == action,
        AuditEvent.target == str(target),
        # By the index of the listing: an event has the time at which its transaction began.
        AuditEvent.created_at.between(ended_at - LONGEST_TRANSACTION, ended_at),
    )
    last = session.scalars(events.order_by(AuditEvent.created_at.desc()).limit(1)).first()
    return last.id if last is not None and "receipt" not in last.detail else None


def listing(
    session: Session, limit: int, after: Position | None, action: str | None = None, actor: str | None = None
) -> Page[AuditEvent]:
    """Newest first, optionally of one action or one actor."""
    where = []
    if action is not None:
        where.append(AuditEvent.action == action)
    if actor is not None:
        where.append(AuditEvent.actor == actor)
    return newest_first(session, AuditEvent, limit, after, *where)
