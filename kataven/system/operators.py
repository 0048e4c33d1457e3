"""The operator audit log: every operation on accounts, servers and migrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, literal, select, tuple_
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


@dataclass(frozen=True, slots=True)
class EventSearch:
    """Filters of the operator audit log. Empty values match everything."""

    account: str = ""
    """An account, exactly."""
    account_contains: str = ""
    """A part of an account's name, ignoring case."""
    action: str = ""
    actor: str = ""
    since: datetime | None = None
    until: datetime | None = None
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class EventPosition:
    """The event after which a page starts, or before which it ends."""

    at: datetime
    id: UUID
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of events, newest first, and whether a previous (newer) and a next page exist."""

    rows: Sequence[OperatorEvent]
    has_previous: bool
    has_next: bool


def page(session: Session, wanted: EventSearch, limit: int, start: EventPosition | None = None) -> EventPage:
    """Up to `limit` matching events after the position, or before it if it is backwards."""
    found = _matching(wanted).limit(limit + 1)
    here = None if start is None else tuple_(literal(start.at), literal(start.id))
    key = tuple_(OperatorEvent.at, OperatorEvent.id)
    if start is not None and start.backwards:
        newer = found.where(key > here).order_by(OperatorEvent.at, OperatorEvent.id)
        rows = session.scalars(newer).all()
        if len(rows) > limit:
            return EventPage(rows[:limit][::-1], has_previous=True, has_next=True)
        start = None  # fewer than a full page precedes the position, so this is the first page
    if start is not None:
        found = found.where(key < here)
    rows = session.scalars(found.order_by(OperatorEvent.at.desc(), OperatorEvent.id.desc())).all()
    return EventPage(rows[:limit], has_previous=start is not None, has_next=len(rows) > limit)


def every_event(
    session_of: Callable[[], AbstractContextManager[Session]], wanted: EventSearch, size: int
) -> Iterator[Sequence[OperatorEvent]]:
    """All matching events, newest first, `size` at a time, each part in its own session."""
    start: EventPosition | None = None
    while True:
        with session_of() as session:
            found = page(session, wanted, size, start)
            session.expunge_all()
        yield found.rows
        if not found.has_next:
            return
        start = EventPosition(found.rows[-1].at, found.rows[-1].id)


def _matching(wanted: EventSearch) -> Select[OperatorEvent]:
    found = select(OperatorEvent)
    if wanted.account:
        found = found.where(OperatorEvent.account_id == wanted.account)
    if wanted.account_contains:
        found = found.where(OperatorEvent.account_id.icontains(wanted.account_contains, autoescape=True))
    if wanted.action:
        found = found.where(OperatorEvent.action == wanted.action)
    if wanted.actor:
        found = found.where(OperatorEvent.actor == wanted.actor)
    if wanted.since is not None:
        found = found.where(OperatorEvent.at >= wanted.since)
    if wanted.until is not None:
        found = found.where(OperatorEvent.at < wanted.until)
    return found


def facets(session: Session) -> tuple[Sequence[str], Sequence[str]]:
    """The operators and the actions in the latest events, each in order."""
    newest = select(OperatorEvent.actor, OperatorEvent.action).order_by(OperatorEvent.at.desc()).limit(NEWEST)
    pairs = newest.subquery()
    found = session.execute(select(pairs.c.actor, pairs.c.action).distinct()).all()
    return sorted({actor for actor, _ in found}), sorted({action for _, action in found})
