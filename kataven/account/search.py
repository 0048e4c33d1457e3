"""Finds keys, widget keys and agents of an account by name, hint or id, and a key by the hashes of its secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import bindparam, func, or_, select, text
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from kataven.account.models import Agent, ApiKey, AuditEvent, WidgetKey
from kataven.account.rotation import has_former_secrets
from kataven.identity.peppers import KeyHash

Named = TypeVar("Named")

_KEYS = """
    SELECT 'api_key' AS kind, id, NULL::timestamptz AS rotated_at, NULL::timestamptz AS ends_at, hint
    FROM api_keys WHERE key_hash IN :digests
    UNION ALL
    SELECT 'widget_key', id, NULL, NULL, hint FROM widget_keys WHERE key_hash IN :digests
"""
_BY_HASH_BEFORE_ROTATION = text(_KEYS).bindparams(bindparam("digests", expanding=True))
_BY_HASH = text(
    f"""{_KEYS}
    UNION ALL
    SELECT 'api_key', key_id, rotated_at, ends_at, hint FROM former_secrets WHERE key_hash IN :digests
    """  # noqa: S608  constants
).bindparams(bindparam("digests", expanding=True))


@dataclass(frozen=True, slots=True)
class Found:
    """What a text matches, the best matches first."""

    keys: Sequence[ApiKey]
    widget_keys: Sequence[WidgetKey]
    agents: Sequence[Agent]
    more: bool
    """Whether there are further matches."""


@dataclass(frozen=True, slots=True)
class FoundSecret:
    """The key that a secret belongs to."""

    key: ApiKey | WidgetKey
    hint: str
    """Of the secret: that of the key differs if the secret was replaced."""
    rotated_at: datetime | None = None
    """When the secret was replaced; None for the current secret of a key, and for a widget key."""
    ends_at: datetime | None = None
    """Until when a replaced secret is accepted. None: until the new one is used, and for a time after that."""


def by_text(session: Session, wanted: str, limit: int) -> Found:
    """Up to `limit` keys, widget keys and agents each, by a part of the name, or by the complete hint or id."""
    row_id = id_in(wanted)
    keys = _best(session, ApiKey, wanted, row_id, limit, ApiKey.hint == wanted)
    widget_keys = _best(session, WidgetKey, wanted, row_id, limit, WidgetKey.hint == wanted)
    agents = _best(session, Agent, wanted, row_id, limit)
    more = any(len(rows) > limit for rows in (keys, widget_keys, agents))
    return Found(keys[:limit], widget_keys[:limit], agents[:limit], more)


def by_hash(session: Session, candidates: Sequence[KeyHash]) -> FoundSecret | None:
    """The key with one of these hashes: the candidates of one secret. Former secrets are found too.

    For a secret that no key has, the queries are always the same, whether it is malformed, invented, or belongs to
    another account.
    """
    statement = _BY_HASH if has_former_secrets(session) else _BY_HASH_BEFORE_ROTATION
    row = session.execute(statement, {"digests": [candidate.digest for candidate in candidates]}).first()
    if row is None:
        return None
    key = session.get(ApiKey, row.id) if row.kind == "api_key" else session.get(WidgetKey, row.id)
    return None if key is None else FoundSecret(key, row.hint, row.rotated_at, row.ends_at)


def receipt(session: Session, event_id: UUID) -> AuditEvent | None:
    """The event with this receipt id, or None."""
    event = session.get(AuditEvent, event_id)
    return event if event is not None and "receipt" in event.detail else None


def id_in(wanted: str) -> UUID | None:
    """The id that the text is, or None."""
    try:
        return UUID(wanted)
    except ValueError:
        return None


def _best(
    session: Session, model: type[Named], wanted: str, row_id: UUID | None, limit: int, *others: ColumnElement[bool]
) -> Sequence[Named]:
    """Equal names first, then names that start with the text, then the newest. One row more than `limit`, if any."""
    table: Any = model
    name, lowered = func.lower(table.name), wanted.lower()
    where = [table.name.icontains(wanted, autoescape=True), *others]
    if row_id is not None:
        where.append(table.id == row_id)
    order = (
        (name == lowered).desc(),
        name.startswith(lowered, autoescape=True).desc(),
        table.created_at.desc(),
        table.id.desc(),
    )
    return session.scalars(select(model).where(or_(*where)).order_by(*order).limit(limit + 1)).all()
