"""Widget keys: the public identifiers that web pages carry. Issue, list, change, remove, and look one up.

These verbs change rows. What takes something away from the pages that carry a key says so, and whoever calls it
commits, and then waits for the receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.errors import NotFound
from kataven.account.models import WidgetKey
from kataven.account.paging import Page, Position, newest_first
from kataven.identity.issuer import IssuedKey
from kataven.identity.peppers import KeyHash

Condition = Callable[[WidgetKey], None]
"""Looks at a row once it is locked, and raises if it is not as the caller wants it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key after a change. `takes_away` says whether pages that were served before may not be any more."""

    key: WidgetKey
    takes_away: bool
    event_id: UUID | None
    """The audit event that tells of it; None if nothing changed."""


def issue(
    session: Session,
    name: str,
    issued: IssuedKey,
    domain_allowlist: Sequence[str],
    agent_id: UUID | None,
    actor: Actor,
) -> WidgetKey:
    """Store a new widget key's hash."""
    key = WidgetKey(
        name=name,
        key_hash=issued.hash.digest,
        pepper_id=issued.hash.pepper_id,
        hint=issued.hint,
        domain_allowlist=list(domain_allowlist),
        agent_id=agent_id,
        created_by=actor.label,
    )
    session.add(key)
    session.flush()
    detail = {"name": name, "hint": key.hint, "domain_allowlist": key.domain_allowlist, "agent_id": _text(agent_id)}
    audit.record(session, actor, "widget_key.created", key.id, detail)
    return key


def listing(session: Session, limit: int, after: Position | None) -> Page[WidgetKey]:
    """Newest first, disabled ones too."""
    return newest_first(session, WidgetKey, limit, after)


def read(session: Session, key_id: UUID) -> WidgetKey:
    """Raises NotFound."""
    key = session.get(WidgetKey, key_id)
    if key is None:
        raise NotFound("widget key")
    return key


def find(session: Session, candidates: Sequence[KeyHash]) -> WidgetKey | None:
    """The key that is stored under one of these hashes."""
    return session.scalar(select(WidgetKey).where(WidgetKey.key_hash.in_([one.digest for one in candidates])))


def rehash(session: Session, key_id: UUID, old: KeyHash, new: KeyHash) -> None:
    """Store `new` in place of `old`; does nothing if `old` is no longer there."""
    session.execute(
        update(WidgetKey)
        .where(WidgetKey.id == key_id, WidgetKey.key_hash == old.digest)
        .values(key_hash=new.digest, pepper_id=new.pepper_id)
    )


def change(
    session: Session, key_id: UUID, fields: Mapping[str, Any], actor: Actor, condition: Condition | None = None
) -> Change:
    """Set `name`, `domain_allowlist`, `agent_id` and `disabled`, those that are given, if the condition holds.

    Raises NotFound, and what the condition raises.
    """
    key = _locked(session, key_id, condition)
    before = _state(key)
    for name in ("name", "domain_allowlist", "agent_id"):
        if name in fields:
            setattr(key, name, fields[name])
    if "disabled" in fields:
        _disable(session, key) if fields["disabled"] else _enable(key)
    after = _state(key)
    if after == before:
        # It may have been disabled by somebody who was cut off before the receipt.
        ended_at = key.disabled_at if "disabled" in fields else None
        cut_off = ended_at and audit.without_receipt(session, "widget_key.disabled", key_id, ended_at)
        return Change(key, False, cut_off or None)
    # The name first: another one of the same field, if it was changed, says from what to what.
    detail = {"name": key.name, "hint": key.hint, **_differences(before, after)}
    event = audit.record(session, actor, _action(before, after), key_id, detail)
    session.flush()
    return Change(key, _takes_away(before, after), event.id)


def remove(session: Session, key_id: UUID, actor: Actor, condition: Condition | None = None) -> UUID:
    """Drop a key's row; with it goes all that it ever let in. The id of the event that says so.

    Raises NotFound, and what the condition raises.
    """
    key = _locked(session, key_id, condition)
    event = audit.record(session, actor, "widget_key.removed", key_id, {"name": key.name, "hint": key.hint})
    session.delete(key)
    session.flush()
    return event.id


def _disable(session: Session, key: WidgetKey) -> None:
    if key.disabled_at is None:
        key.disabled_at = session.scalar(select(func.clock_timestamp()))
        key.generation += 1


def _enable(key: WidgetKey) -> None:
    key.disabled_at = None


def _state(key: WidgetKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "domain_allowlist": list(key.domain_allowlist),
        "agent_id": _text(key.agent_id),
        "disabled": key.disabled_at is not None,
    }


def _action(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if before["disabled"] != after["disabled"]:
        return "widget_key.disabled" if after["disabled"] else "widget_key.enabled"
    return "widget_key.changed"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"from": before[name], "to": after[name]} for name in before if before[name] != after[name]}


def _takes_away(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return (
        (after["disabled"] and not before["disabled"])
        or not set(before["domain_allowlist"]) <= set(after["domain_allowlist"])
        or (after["agent_id"] is not None and after["agent_id"] != before["agent_id"])
    )


def _locked(session: Session, key_id: UUID, condition: Condition | None) -> WidgetKey:
    key = session.get(WidgetKey, key_id, with_for_update=True)
    if key is None:
        raise NotFound("widget key")
    if condition is not None:
        condition(key)
    return key


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
