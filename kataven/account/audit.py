"""Who did what, when, from where: one event for each thing that changes, in the transaction that changes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from kataven.account.models import AuditEvent
from kataven.account.paging import Page, Position, newest_first

LONGEST_TRANSACTION = timedelta(minutes=10)
NEWEST = 10_000
"""The events whose people and actions a search can choose from."""


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


def ended_by(session: Session, action: str, ended: Mapping[UUID, datetime]) -> Mapping[str, str]:
    """Who did `action` to each target, from the events that were committed when they ended; by the target's id."""
    if not ended:
        return {}
    when_each_ended = (
        # By the index of the listing, as in `without_receipt`: targets have none of their own.
        and_(AuditEvent.target == str(target), AuditEvent.created_at.between(ended_at - LONGEST_TRANSACTION, ended_at))
        for target, ended_at in ended.items()
    )
    events = select(AuditEvent.target, AuditEvent.actor_name).where(AuditEvent.action == action, or_(*when_each_ended))
    return {target: name for target, name in session.execute(events.order_by(AuditEvent.created_at)) if target}


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


@dataclass(frozen=True, slots=True)
class AuditFacets:
    """Who did something and what was done, among the newest events."""

    actors: Mapping[str, str]
    """Names by label, such as `jwt:alice`."""
    actions: Sequence[str]


def facets(session: Session) -> AuditFacets:
    """What a search can choose from. Looks at the newest events only, since the trail has no end."""
    newest = select(AuditEvent.actor, AuditEvent.actor_name, AuditEvent.action)
    events = newest.order_by(AuditEvent.created_at.desc(), AuditEvent.id.desc()).limit(NEWEST).subquery()
    found = session.execute(select(events).distinct()).all()
    return AuditFacets({actor: name for actor, name, _ in found}, sorted({action for *_, action in found}))


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """What somebody looks for in the trail. Empty texts look for nothing; case does not matter."""

    action: str = ""
    """How it begins, with or without what it was done to: `api_key`, `revoked`."""
    actor: str = ""
    """How a label or a name begins, with or without the kind: `jwt:alice`, `ali`."""
    target: str = ""
    """The id of what it was done to, or a part of its name."""


def search(
    session: Session, limit: int, start: Position | None, wanted: AuditSearch, facets: AuditFacets
) -> Page[AuditEvent]:
    """Newest first. An actor that is `known` by exactly this label is looked for exactly."""
    where: list[ColumnElement[bool]] = []
    if wanted.action:
        where.append(_begins(AuditEvent.action, wanted.action, "."))
    if wanted.actor in facets.actors:
        where.append(AuditEvent.actor == wanted.actor)
    elif wanted.actor:
        by_name = AuditEvent.actor_name.istartswith(wanted.actor, autoescape=True)
        where.append(or_(_begins(AuditEvent.actor, wanted.actor, ":"), by_name))
    if wanted.target:
        named = AuditEvent.detail["name"].astext.icontains(wanted.target, autoescape=True)
        where.append(or_(AuditEvent.target == wanted.target.lower(), named))
    return newest_first(session, AuditEvent, limit, start, *where)


def _begins(column: InstrumentedAttribute[str], text: str, after: str) -> ColumnElement[bool]:
    """Whether it begins so, or the part of it behind `after` does."""
    return or_(
        column.istartswith(text, autoescape=True), func.split_part(column, after, 2).istartswith(text, autoescape=True)
    )
