"""The account's audit log: one event per change, written in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from kataven.account.errors import ChangeLost
from kataven.account.models import AuditEvent
from kataven.account.paging import Page, Position, newest_first

MAX_TRANSACTION = timedelta(minutes=10)
SIGN_INS = ("person.signed_in", "person.signed_out")
_SEARCHED_EVENTS = 1_000


@dataclass(frozen=True, slots=True)
class Actor:
    """The user, API key or operator who performs an operation."""

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
    """Add details to an event that were known only after its transaction, such as the receipt of a revocation.

    Raises ChangeLost if the event does not exist. It was committed with the change, so the change is lost as well.
    """
    event = session.get(AuditEvent, event_id)
    if event is None:
        raise ChangeLost
    event.detail = {**event.detail, **detail}


def without_receipt(session: Session, action: str, target: object, revoked_at: datetime) -> UUID | None:
    """The revocation event of `target`, if the revoking process stopped before it stored the receipt."""
    events = select(AuditEvent).where(
        AuditEvent.action == action,
        AuditEvent.target == str(target),
        # Uses the index of the listing. The time of an event is the start of its transaction.
        AuditEvent.created_at.between(revoked_at - MAX_TRANSACTION, revoked_at),
    )
    last = session.scalars(events.order_by(AuditEvent.created_at.desc()).limit(1)).first()
    return last.id if last is not None and "receipt" not in last.detail else None


def revoked_by(session: Session, action: str, revoked: Mapping[UUID, datetime]) -> Mapping[str, str]:
    """The actor of `action` for each target, by target id: a name, or the label of an operator, as in `operator:cli`.

    Reads the events at the time of the revocation.
    """
    if not revoked:
        return {}
    when_each_was_revoked = (
        # Uses the index of the listing, as in `without_receipt`. The target column has no index.
        and_(AuditEvent.target == str(target), AuditEvent.created_at.between(revoked_at - MAX_TRANSACTION, revoked_at))
        for target, revoked_at in revoked.items()
    )
    events = select(AuditEvent.target, AuditEvent.actor, AuditEvent.actor_name).where(
        AuditEvent.action == action, or_(*when_each_was_revoked)
    )
    return {
        target: label if label.startswith("operator:") else name
        for target, label, name in session.execute(events.order_by(AuditEvent.created_at))
        if target
    }


def listing(
    session: Session, limit: int, after: Position | None, action: str | None = None, actor: str | None = None
) -> Page[AuditEvent]:
    """A page of events, newest first, optionally of one action or one actor."""
    where = []
    if action is not None:
        where.append(AuditEvent.action == action)
    if actor is not None:
        where.append(AuditEvent.actor == actor)
    return newest_first(session, AuditEvent, limit, after, *where)


def latest_changes(session: Session, limit: int) -> Sequence[AuditEvent]:
    """The latest events except sign-ins and sign-outs, newest first. Reads the newest events only."""
    order = (AuditEvent.created_at.desc(), AuditEvent.id.desc())
    newest = select(AuditEvent.id).order_by(*order).limit(_SEARCHED_EVENTS).subquery()
    events = select(AuditEvent).join(newest, newest.c.id == AuditEvent.id).where(AuditEvent.action.not_in(SIGN_INS))
    return session.scalars(events.order_by(*order).limit(limit)).all()


def of_target(session: Session, target: str, limit: int) -> Sequence[AuditEvent]:
    """The latest events about `target`, newest first."""
    events = select(AuditEvent).where(AuditEvent.target == target)
    return session.scalars(events.order_by(AuditEvent.created_at.desc(), AuditEvent.id.desc()).limit(limit)).all()
