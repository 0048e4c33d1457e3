"""API keys: issue, list, rename, limit, revoke, remove.

These verbs change rows. Making every worker forget a key is the revocation room's work: whoever calls `revoke` or
`cap_expiry` commits, and then waits for the receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.errors import LimitAboveAccount, NotFound
from kataven.account.models import ApiKey
from kataven.account.paging import Page, Position, newest_first
from kataven.identity.issuer import IssuedKey
from kataven.ratelimit.policy import KeyLimits, Limits, contradictions


class KeyStatus(StrEnum):
    """Whether a key is accepted, and if not, why."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


def status(key: ApiKey, now: datetime) -> KeyStatus:
    """Revoked wins over expired: somebody ended it, whatever the clock says."""
    if key.disabled_at is not None:
        return KeyStatus.REVOKED
    if key.expires_at is not None and key.expires_at <= now:
        return KeyStatus.EXPIRED
    return KeyStatus.ACTIVE


def issue(session: Session, name: str, issued: IssuedKey, expires_at: datetime | None, actor: Actor) -> ApiKey:
    """Store a new key's hash. The key itself never comes here."""
    key = ApiKey(
        name=name,
        key_hash=issued.hash.digest,
        pepper_id=issued.hash.pepper_id,
        hint=issued.hint,
        created_by=actor.label,
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    expiry = None if expires_at is None else expires_at.isoformat()
    audit.record(session, actor, "api_key.created", key.id, {"name": name, "hint": key.hint, "expires_at": expiry})
    return key


def listing(session: Session, limit: int, after: Position | None) -> Page[ApiKey]:
    """Newest first, revoked and expired ones too."""
    return newest_first(session, ApiKey, limit, after)


def read(session: Session, key_id: UUID) -> ApiKey:
    """Raises NotFound."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFound("API key")
    return key


def is_usable(session: Session, key_id: UUID) -> bool:
    """Whether a key is there, neither revoked nor expired: by the database's own clock, and as it is now."""
    alive = ApiKey.disabled_at.is_(None) & or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.clock_timestamp())
    return session.scalar(select(ApiKey.id).where(ApiKey.id == key_id, alive)) is not None


def rename(session: Session, key_id: UUID, name: str | None, actor: Actor) -> ApiKey:
    """Give a key another name; None keeps the one it has. Raises NotFound."""
    key = _locked(session, key_id)
    if name is not None and key.name != name:
        audit.record(session, actor, "api_key.renamed", key_id, {"from": key.name, "to": name})
        key.name = name
        session.flush()
    return key


def revoke(session: Session, key_id: UUID, actor: Actor) -> tuple[ApiKey, UUID | None]:
    """End a key for good; with it, the id of the event that says so and has no receipt yet, if there is one.

    A key that had ended before stays as it is. Raises NotFound.
    """
    key = _locked(session, key_id)
    if key.disabled_at is not None:
        return key, audit.without_receipt(session, "api_key.revoked", key_id, key.disabled_at)
    key.disabled_at = session.scalar(select(func.clock_timestamp()))
    event = audit.record(session, actor, "api_key.revoked", key_id, {"name": key.name, "hint": key.hint})
    session.flush()
    return key, event.id


def change_limits(
    session: Session, key_id: UUID, given: Mapping[str, int], most: Limits, actor: Actor, *, clear: bool = False
) -> tuple[ApiKey, dict[str, int]]:
    """Set some limits of a key's own and keep the others, or with `clear` drop them; the key, and what it had before.

    Raises NotFound, LimitAboveAccount for one above `most`, or ValueError for what can't be a limit, or for two that
    contradict each other.
    """
    key = _locked(session, key_id)
    before = dict(key.limits or {})
    after = {**({} if clear else before), **given}
    own = KeyLimits(**after)
    for name, limit in given.items():
        if limit > getattr(most, name):
            raise LimitAboveAccount(name.replace("_", "-"), limit, getattr(most, name))
    problems = tuple(contradictions(own, given))
    if problems:
        raise ValueError("; ".join(problems))
    if after != before:
        key.limits = after or None
        audit.record(session, actor, "api_key.limits_changed", key_id, {"from": before, "to": after})
        session.flush()
    return key, before


def remove_if_unused(session: Session, key_id: UUID) -> bool:
    """Drop the row of a revoked key that nobody ever used. Whether it was dropped."""
    dropped = session.execute(
        delete(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.last_used_at.is_(None), ApiKey.disabled_at.is_not(None))
        .returning(ApiKey.id)
    )
    return dropped.first() is not None


def cap_expiry(session: Session, max_days: int, actor: Actor) -> int:
    """Shorten every key that outlives a policy of `max_days`, counted from its creation. How many there were."""
    latest = ApiKey.created_at + timedelta(days=max_days)
    shortened = session.execute(
        update(ApiKey)
        .where(ApiKey.disabled_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > latest))
        .values(expires_at=latest)
        .returning(ApiKey.id)
    )
    count = len(shortened.all())
    if count:
        audit.record(session, actor, "api_keys.expiry_shortened", None, {"max_days": max_days, "keys": count})
    return count


def _locked(session: Session, key_id: UUID) -> ApiKey:
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None:
        raise NotFound("API key")
    return key
