"""Operations on widget keys, the public identifiers in web pages: issue, list, change, remove and find.

These functions change rows only. If `Change.revokes_access` is set, the caller must commit and then wait for the
receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.errors import NotFound
from kataven.account.models import WidgetKey, WidgetKeySeed
from kataven.account.paging import Page, Position, newest_first
from kataven.identity.issuer import IssuedKey, Seed
from kataven.identity.peppers import KeyHash

Condition = Callable[[WidgetKey], None]
"""Called with the locked row. Raises if a precondition of the caller does not hold."""


@dataclass(frozen=True, slots=True)
class Change:
    """A key after a change. `revokes_access` is set if a page that was served before is not served any more."""

    key: WidgetKey
    revokes_access: bool
    event_id: UUID | None
    """The audit event of the change; None if nothing changed."""


def issue(
    session: Session,
    name: str,
    issued: IssuedKey,
    domain_allowlist: Sequence[str],
    agent_id: UUID | None,
    actor: Actor,
) -> WidgetKey:
    """Store the hash of a new widget key, and its seed if it has one."""
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
    if issued.seed is not None and has_seeds(session):
        session.add(WidgetKeySeed(key_id=key.id, seed=issued.seed, pepper_id=issued.hash.pepper_id))
        session.flush()
    detail = {"name": name, "hint": key.hint, "domain_allowlist": key.domain_allowlist, "agent_id": _text(agent_id)}
    audit.record(session, actor, "widget_key.created", key.id, detail)
    return key


def has_seeds(session: Session) -> bool:
    """Whether the account's database stores seeds: since `account_0008`."""
    return bool(session.scalar(select(func.to_regclass(WidgetKeySeed.__tablename__).is_not(None))))


def seed_of(session: Session, key_id: UUID) -> Seed | None:
    """What the key is derived from; None if that is not stored."""
    stored = session.get(WidgetKeySeed, key_id) if has_seeds(session) else None
    return None if stored is None else Seed(bytes(stored.seed), stored.pepper_id)


def listing(session: Session, limit: int, after: Position | None) -> Page[WidgetKey]:
    """A page of keys, newest first, including disabled keys."""
    return newest_first(session, WidgetKey, limit, after)


def names(session: Session, key_ids: Collection[UUID]) -> Mapping[UUID, str]:
    """Names by id. Ids of keys that don't exist are omitted."""
    if not key_ids:
        return {}
    found = select(WidgetKey.id, WidgetKey.name).where(WidgetKey.id.in_(key_ids))
    return {row.id: row.name for row in session.execute(found)}


def read(session: Session, key_id: UUID) -> WidgetKey:
    """Raises NotFound."""
    key = session.get(WidgetKey, key_id)
    if key is None:
        raise NotFound("widget key")
    return key


def find(session: Session, candidates: Sequence[KeyHash]) -> WidgetKey | None:
    """The key that is stored with one of these hashes."""
    return session.scalar(select(WidgetKey).where(WidgetKey.key_hash.in_([one.digest for one in candidates])))


def rehash(session: Session, key_id: UUID, old: KeyHash, new: KeyHash) -> None:
    """Replace the hash `old` by `new`. Does nothing if `old` is no longer stored."""
    session.execute(
        update(WidgetKey)
        .where(WidgetKey.id == key_id, WidgetKey.key_hash == old.digest)
        .values(key_hash=new.digest, pepper_id=new.pepper_id)
    )


def change(
    session: Session, key_id: UUID, fields: Mapping[str, Any], actor: Actor, condition: Condition | None = None
) -> Change:
    """Set those of `name`, `domain_allowlist`, `agent_id` and `disabled` that are given.

    Raises NotFound, and the error of `condition` if it does not hold.
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
        # The process that disabled it may have stopped before it stored the receipt.
        disabled_at = key.disabled_at if "disabled" in fields else None
        pending = disabled_at and audit.without_receipt(session, "widget_key.disabled", key_id, disabled_at)
        return Change(key, False, pending or None)
    # A change of the name replaces this `name` by its old and new value.
    detail = {"name": key.name, "hint": key.hint, **_differences(before, after)}
    event = audit.record(session, actor, _action(before, after), key_id, detail)
    session.flush()
    return Change(key, _revokes_access(before, after), event.id)


def remove(session: Session, key_id: UUID, actor: Actor, condition: Condition | None = None) -> tuple[UUID, int]:
    """Delete a key, which ends its visitor sessions. Returns the id of the audit event, and the generation to journal.

    Raises NotFound, and the error of `condition` if it does not hold.
    """
    key = _locked(session, key_id, condition)
    event = audit.record(session, actor, "widget_key.removed", key_id, {"name": key.name, "hint": key.hint})
    session.delete(key)
    session.flush()
    return event.id, key.generation + 1


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


def _revokes_access(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
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
