"""The API keys and users that call an account, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from kataven.account.models import ApiKey, SeenPerson, UsageCaller

MAX_MATCHES = 100
"""How many callers a filter by name selects."""


@dataclass(frozen=True, slots=True)
class NamedCaller:
    """An API key or a user."""

    id: UUID
    is_key: bool
    name: str


def named(session: Session, ids: Collection[UUID]) -> Mapping[UUID, NamedCaller]:
    """The callers with these ids, with their current names."""
    if not ids:
        return {}
    found = select(ApiKey.id, text("true"), ApiKey.name).where(ApiKey.id.in_(ids))
    people = select(SeenPerson.id, text("false"), SeenPerson.name).where(SeenPerson.id.in_(ids))
    return {row[0]: NamedCaller(*row) for row in session.connection().execute(found.union_all(people))}


def recent(session: Session, at_most: int) -> Sequence[NamedCaller]:
    """The keys and users with the latest calls, newest first. Omits those that don't exist any more."""
    latest = select(UsageCaller.caller).order_by(UsageCaller.last_at.desc()).limit(at_most)
    ids = session.scalars(latest).all()
    found = named(session, ids)
    return [found[caller] for caller in ids if caller in found]


def matching(session: Session, given: str, *, keys_only: bool) -> Sequence[NamedCaller]:
    """The callers whose name, or the end of whose key, is `given`. If there are none, those whose name contains it."""
    literal = _literal(given)
    for pattern in (literal, f"%{literal}%"):
        of_keys = or_(ApiKey.name.ilike(pattern, escape="\\"), ApiKey.hint == given)
        keys = select(ApiKey.id, text("true"), ApiKey.name).where(of_keys).limit(MAX_MATCHES)
        found = [NamedCaller(*row) for row in session.connection().execute(keys)]
        if not keys_only:
            of_people = SeenPerson.name.ilike(pattern, escape="\\")
            people = select(SeenPerson.id, text("false"), SeenPerson.name).where(of_people).limit(MAX_MATCHES)
            found += [NamedCaller(*row) for row in session.connection().execute(people)]
        if found:
            return found
    return []


def _literal(given: str) -> str:
    """As a pattern of `ILIKE` that matches only itself."""
    return given.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
