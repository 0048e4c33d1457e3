"""The operator audit log: every operation on accounts, servers and migrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from kataven.system.models import OperatorEvent


def record(
    session: Session, actor: str, action: str, account: str | None = None, detail: Mapping[str, Any] | None = None
) -> OperatorEvent:
    """Add an event such as `account.created`. Call it in the transaction of the change."""
    event = OperatorEvent(actor=actor, action=action, account_id=account, detail=dict(detail or {}))
    session.add(event)
    return event


def add_detail(session: Session, event_id: UUID, detail: Mapping[str, Any]) -> None:
    """Add fields to an event that were unknown in its transaction, such as a receipt."""
    event = session.get_one(OperatorEvent, event_id)
    event.detail = {**event.detail, **detail}


def latest(session: Session, action: str, account: str) -> OperatorEvent | None:
    """The latest event with this action for an account."""
    events = select(OperatorEvent).where(OperatorEvent.action == action, OperatorEvent.account_id == account)
    return session.scalars(events.order_by(OperatorEvent.at.desc()).limit(1)).first()


NEWEST = 10_000
"""The number of latest events from which `facets` reads operators and actions; the log itself is unlimited."""


def listing(
    session: Session,
    limit: int,
    skip: int = 0,
    account: str | None = None,
    action: str | None = None,
    actor: str | None = None,
    account_contains: str = "",
    actions: Sequence[str] = (),
) -> Sequence[OperatorEvent]:
    """Events, newest first: `limit` events after the first `skip`, optionally of one account, action or operator.

    `account_contains` is a substring of an account's name, ignoring case. `actions` are several actions, if it is not
    empty.
    """
    events = select(OperatorEvent).order_by(OperatorEvent.at.desc(), OperatorEvent.id.desc())
    if account is not None:
        events = events.where(OperatorEvent.account_id == account)
    if action is not None:
        events = events.where(OperatorEvent.action == action)
    if actions:
        events = events.where(OperatorEvent.action.in_(actions))
    if actor is not None:
        events = events.where(OperatorEvent.actor == actor)
    if account_contains:
        events = events.where(OperatorEvent.account_id.icontains(account_contains, autoescape=True))
    return session.scalars(events.offset(skip).limit(limit)).all()


def facets(session: Session) -> tuple[Sequence[str], Sequence[str]]:
    """The operators and the actions in the latest events, each in order."""
    newest = select(OperatorEvent.actor, OperatorEvent.action).order_by(OperatorEvent.at.desc()).limit(NEWEST)
    pairs = newest.subquery()
    found = session.execute(select(pairs.c.actor, pairs.c.action).distinct()).all()
    return sorted({actor for actor, _ in found}), sorted({action for _, action in found})
