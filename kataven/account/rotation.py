"""Rotation of API keys: a key gets a new secret and keeps its id, name, scopes and limits.

    rotate        the new secret is accepted; the old one is accepted too
    first use     of the new secret, recorded by `kataven.account.last_used_tracker`: the grace period starts
    end           of the grace period, or `shorten`: the old secret is refused, and its uses are counted

At most two secrets of a key are accepted. These functions change rows only. After `rotate` and `shorten`, the caller
must commit and then wait for the receipt of `kataven.revocation`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session, undefer_group

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.errors import Conflict, NotFound
from kataven.account.models import KEY_ROTATION, KEY_RULES, ApiKey, FormerSecret
from kataven.identity.issuer import IssuedKey
from kataven.tenancy.directory import Tenant

ROTATION_SINCE = "account_0004"
SINCE_COLUMN = "generation"
"""A column of API keys that `account_0004` added."""
MAX_GRACE_SECONDS = 7 * 24 * 3600
DEFAULT_GRACE_SECONDS = 24 * 3600
SHOWN = 5
"""How many former secrets of a key are shown, the latest first."""


def has_rotation(tenant: Tenant) -> bool:
    """Whether the account's database has former secrets, according to the directory."""
    return tenant.revision is None or tenant.revision >= ROTATION_SINCE


def has_former_secrets(session: Session) -> bool:
    """The same according to the database, for callers without the directory's record."""
    return bool(session.scalar(select(func.to_regclass(FormerSecret.__tablename__).is_not(None))))


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key with its new secret. `replaced` is true if its last secret had not been used and is refused from now on."""

    key: ApiKey
    replaced: bool
    event_id: UUID


@dataclass(frozen=True, slots=True)
class Ended:
    """A key whose former secrets end earlier. `below` is set if they ended at once: all lower generations ended."""

    key: ApiKey
    below: int | None
    event_id: UUID | None
    """The audit event of the change; None if nothing changed."""


def rotate(session: Session, key_id: UUID, issued: IssuedKey, grace_seconds: int, actor: Actor) -> Rotated:
    """Give a key a new secret.

    The current secret is accepted until the new one is used, and then for `grace_seconds`. If the current secret is the
    result of a rotation and was not used yet, it is replaced and refused at once: the secret before it remains. Raises
    NotFound, or Conflict if the key is revoked or expired, or if the former secret is still in its grace period.
    """
    key = _locked(session, key_id)
    now = session.scalars(select(func.clock_timestamp())).one()
    if key.disabled_at is not None:
        raise Conflict("A revoked API key can't be rotated. Create a new one.")
    if key.expires_at is not None and key.expires_at <= now:
        raise Conflict("An expired API key can't be rotated. Create a new one.")
    accepted = _accepted(session, key_id, now)
    in_grace = next((former for former in accepted if former.ends_at is not None), None)
    if in_grace is not None and in_grace.ends_at is not None:
        raise Conflict(
            f"The previous secret of this API key (ending in {in_grace.hint}) is accepted until "
            f"{in_grace.ends_at.isoformat(timespec='seconds')}. A key has at most two secrets. Wait, or end it first."
        )
    pending = next(iter(accepted), None)
    if pending is not None:
        pending.grace_seconds = grace_seconds
    session.add(
        FormerSecret(
            key_id=key_id,
            generation=key.generation,
            key_hash=key.key_hash,
            pepper_id=key.pepper_id,
            hint=key.hint,
            rotated_at=now,
            grace_seconds=0 if pending is not None else grace_seconds,
            ends_at=now if pending is not None else None,
        )
    )
    detail = {"name": key.name, "from": key.hint, "to": issued.hint, "grace_seconds": grace_seconds}
    key.key_hash, key.pepper_id, key.hint = issued.hash.digest, issued.hash.pepper_id, issued.hint
    key.generation += 1
    key.rotated_at = now
    event = audit.record(session, actor, "api_key.rotated", key_id, {**detail, "replaced_unused": pending is not None})
    session.flush()
    return Rotated(key, pending is not None, event.id)


def shorten(session: Session, key_id: UUID, seconds: int, actor: Actor) -> Ended:
    """Refuse the former secret of a key after `seconds` at the latest, even if the new one was not used. 0: at once.

    Raises NotFound, or Conflict if no former secret is accepted and `seconds` is not 0.
    """
    key = _locked(session, key_id)
    now = session.scalars(select(func.clock_timestamp())).one()
    accepted, latest = _accepted(session, key_id, now), now + timedelta(seconds=seconds)
    if not accepted and seconds:
        raise Conflict("No former secret of this API key is accepted any more.")
    event = None
    for former in accepted:
        if former.ends_at is not None and former.ends_at <= latest:
            continue
        former.ends_at = latest
        detail = {"name": key.name, "hint": former.hint, "ends_at": latest.isoformat()}
        action = "api_key.former_secret_shortened" if seconds else "api_key.former_secret_ended"
        event = audit.record(session, actor, action, key_id, detail)
    session.flush()
    # Also if it had ended before: the first request may have stopped before its receipt and its entry in the journal.
    return Ended(key, None if seconds else key.generation, None if event is None else event.id)


def start_grace(session: Session, former_ids: Collection[str]) -> None:
    """The new secret was used: start the grace period of these former secrets, unless it has started.

    By the clock of the database, after the use, so that no worker's clock can shorten it.
    """
    session.execute(
        update(FormerSecret)
        .where(FormerSecret.id.in_([UUID(former_id) for former_id in former_ids]), FormerSecret.ends_at.is_(None))
        .values(ends_at=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, FormerSecret.grace_seconds))
    )


@dataclass(frozen=True, slots=True)
class LateUse:
    """Uses of a former secret that were refused."""

    count: int
    at: datetime
    address: str


def store_late_uses(session: Session, uses: Mapping[str, LateUse]) -> None:
    """Add refused uses of former secrets."""
    for former_id, use in sorted(uses.items()):
        session.execute(
            update(FormerSecret)
            .where(FormerSecret.id == UUID(former_id))
            .values(
                late_uses=FormerSecret.late_uses + use.count,
                last_late_use_at=func.greatest(FormerSecret.last_late_use_at, use.at),
                last_late_address=use.address,
            )
        )


def former_secrets(session: Session, key_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[FormerSecret]]:
    """Up to `SHOWN` former secrets of each key, the latest first."""
    if not key_ids:
        return {}
    rank = func.row_number().over(partition_by=FormerSecret.key_id, order_by=FormerSecret.generation.desc())
    ranked = select(FormerSecret.id, rank.label("rank")).where(FormerSecret.key_id.in_(key_ids)).subquery()
    rows = (
        select(FormerSecret)
        .join(ranked, ranked.c.id == FormerSecret.id)
        .where(ranked.c.rank <= SHOWN)
        .order_by(FormerSecret.generation.desc())
    )
    found: dict[UUID, list[FormerSecret]] = {}
    for former in session.scalars(rows):
        found.setdefault(former.key_id, []).append(former)
    return found


def is_accepted(now: datetime | ColumnElement[datetime]) -> ColumnElement[bool]:
    """Whether a former secret is accepted, as an SQL expression."""
    return or_(FormerSecret.ends_at.is_(None), FormerSecret.ends_at > now)


def _accepted(session: Session, key_id: UUID, now: datetime) -> Sequence[FormerSecret]:
    found = select(FormerSecret).where(FormerSecret.key_id == key_id, is_accepted(now)).with_for_update()
    return session.scalars(found.order_by(FormerSecret.generation)).all()


def _locked(session: Session, key_id: UUID) -> ApiKey:
    groups = [undefer_group(KEY_RULES), undefer_group(KEY_ROTATION)]
    key = session.get(ApiKey, key_id, with_for_update=True, options=groups)
    if key is None:
        raise NotFound("API key")
    return key
