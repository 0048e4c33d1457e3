"""Keys of an account whose database is restored, or has lost commits. It contains an earlier state, in which keys that
were revoked or paused since are valid, and keys have scopes and conditions that were changed since.

Any other revocable record in an account's database must be handled here too.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.api_keys import DEFAULT_RULES, KeyRules
from kataven.account.audit import Actor
from kataven.account.key_status import moment_in
from kataven.account.models import KEY_COLUMNS, ApiKey, FormerSecret, WidgetKey
from kataven.account.rotation import has_former_secrets, is_accepted
from kataven.revocation.target import secrets_of


@dataclass(frozen=True, slots=True)
class UsableKey:
    """A key that is not revoked."""

    expires_at: datetime | None = None
    """None: never."""
    rules: KeyRules = DEFAULT_RULES
    paused_at: datetime | None = None


UsableKeys = Mapping[UUID, UsableKey]
"""The keys that are not revoked."""


def usable_keys(session: Session) -> UsableKeys:
    """The API keys and widget keys that are not revoked."""
    found: dict[UUID, UsableKey] = {}
    api_keys = select(ApiKey.id, ApiKey.expires_at, KEY_COLUMNS).where(ApiKey.disabled_at.is_(None))
    for key_id, expires_at, columns in session.execute(api_keys):
        found[key_id] = UsableKey(expires_at, KeyRules.of_columns(columns), moment_in(columns, "paused_at"))
    for key_id in session.scalars(select(WidgetKey.id).where(WidgetKey.disabled_at.is_(None))):
        found[key_id] = UsableKey()
    return found


def revoke_other_keys(session: Session, usable: UsableKeys, actor: Actor) -> int:
    """Revoke every key that is not in `usable`, cap the expiry of the others, and keep their scopes, conditions and
    pause. The loaded database must be at the newest revision. Returns how many keys were revoked.
    """
    now, revoked = session.scalar(select(func.clock_timestamp())), 0
    for model in (ApiKey, WidgetKey):
        others = update(model).where(model.disabled_at.is_(None), model.id.not_in(list(usable)))
        revoked += len(session.execute(others.values(disabled_at=now).returning(model.id)).all())
    for key_id, key in usable.items():
        rules = {**key.rules.as_columns(), "paused_at": key.paused_at}
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(**rules))
        if key.expires_at is not None:
            earliest = func.least(ApiKey.expires_at, key.expires_at)  # PostgreSQL's ignores NULL, which is "never" here
            session.execute(update(ApiKey).where(ApiKey.id == key_id).values(expires_at=earliest))
    if revoked:
        audit.record(session, actor, "keys.ended_on_load", None, {"keys": revoked})
    return revoked


def apply_journal(session: Session, entries: Mapping[str, int | None], actor: Actor) -> int:
    """Disable the journalled keys that are valid in this database, and end journalled secrets. Returns how many keys
    changed.

    `entries` are the generations by key id: a widget key is disabled only in a lower generation. The audit log gets the
    same event as at the first time, with `reapplied`.
    """
    ids = [UUID(key_id) for key_id in entries]
    now, disabled = session.scalar(select(func.clock_timestamp())), 0
    valid_keys = select(ApiKey).where(ApiKey.id.in_(ids), ApiKey.disabled_at.is_(None)).with_for_update()
    for key in session.scalars(valid_keys).all():
        key.disabled_at = now
        audit.record(session, actor, "api_key.revoked", key.id, _reapplied(key))
        disabled += 1
    for widget_key in session.scalars(select(WidgetKey).where(WidgetKey.id.in_(ids)).with_for_update()).all():
        generation = entries[str(widget_key.id)]
        if generation is None or widget_key.generation >= generation:
            continue
        widget_key.generation = generation
        if widget_key.disabled_at is None:
            widget_key.disabled_at = now
            audit.record(session, actor, "widget_key.disabled", widget_key.id, _reapplied(widget_key))
            disabled += 1
    session.flush()
    return disabled + _end_journalled_secrets(session, entries, actor)


def _end_journalled_secrets(session: Session, entries: Mapping[str, int | None], actor: Actor) -> int:
    """End the journalled secrets of API keys again. Returns how many keys had one.

    If the database has lost the rotation too, the ended secret is the current one again. It is removed, so that the key
    has no secret until it is rotated.
    """
    generations = {key_id: generation for key_id, generation in entries.items() if generation is not None}
    if not generations or not has_former_secrets(session):
        return 0
    now, keys = session.scalars(select(func.clock_timestamp())).one(), 0
    for key_id in session.scalars(select(ApiKey.id)).all():
        below = generations.get(secrets_of(str(key_id)))
        if below is None:
            continue
        lower = (FormerSecret.key_id == key_id) & (FormerSecret.generation < below)
        ended = session.execute(
            update(FormerSecret).where(lower, is_accepted(now)).values(ends_at=now).returning(FormerSecret.id)
        ).all()
        lost = session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.generation < below)
            .values(key_hash=secrets.token_bytes(32), generation=below)
            .returning(ApiKey.id)
        ).all()
        if ended or lost:
            audit.record(session, actor, "api_key.former_secret_ended", key_id, {"reapplied": True})
            keys += 1
    return keys


@dataclass(frozen=True, slots=True)
class KeySecrets:
    """The secrets of an account's API keys: a restored database gets them, so that no ended secret is valid in it."""

    current: Sequence[Mapping[str, Any]]
    former: Sequence[Mapping[str, Any]]


def key_secrets(session: Session) -> KeySecrets | None:
    """The secrets of every API key, or None if no key was ever rotated in this account."""
    if not has_former_secrets(session):
        return None
    rotated = select(ApiKey.id, ApiKey.key_hash, ApiKey.pepper_id, ApiKey.hint, ApiKey.generation, ApiKey.rotated_at)
    current = [row._asdict() for row in session.execute(rotated.where(ApiKey.generation > 0))]
    former = [row._asdict() for row in session.execute(select(*FormerSecret.__table__.columns))]
    return KeySecrets(current, former) if current else None


def restore_secrets(session: Session, kept: KeySecrets | None) -> None:
    """Give the keys of a loaded database, which must be at the newest revision, the secrets that they have now."""
    if kept is None:
        return
    keys = set(session.scalars(select(ApiKey.id)).all())
    session.execute(delete(FormerSecret).where(FormerSecret.key_id.in_([row["id"] for row in kept.current])))
    for row in kept.current:
        values = {name: value for name, value in row.items() if name != "id"}
        session.execute(update(ApiKey).where(ApiKey.id == row["id"]).values(values))
    rows = [dict(row) for row in kept.former if row["key_id"] in keys]
    if rows:
        session.execute(insert(FormerSecret), rows)


def _reapplied(key: ApiKey | WidgetKey) -> dict[str, Any]:
    return {"name": key.name, "hint": key.hint, "reapplied": True}
