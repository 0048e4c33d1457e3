"""Keys of a restored account. A dump contains an earlier state, so restoring it must not reactivate keys that were
revoked since.

Any other revocable record in an account's database must be handled here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from kataven.account import audit
from kataven.account.audit import Actor
from kataven.account.models import ApiKey, WidgetKey

UsableKeys = Mapping[UUID, datetime | None]
"""Keys that are not revoked, with their expiry (None: never)."""


def usable_keys(session: Session) -> UsableKeys:
    """The API keys and widget keys that are not revoked."""
    found: dict[UUID, datetime | None] = {}
    for key_id, expires_at in session.execute(select(ApiKey.id, ApiKey.expires_at).where(ApiKey.disabled_at.is_(None))):
        found[key_id] = expires_at
    for key_id in session.scalars(select(WidgetKey.id).where(WidgetKey.disabled_at.is_(None))):
        found[key_id] = None
    return found


def revoke_other_keys(session: Session, usable: UsableKeys, actor: Actor) -> int:
    """Revoke every key that is not in `usable`, and cap the expiry of the others. Returns how many were revoked."""
    now, revoked = session.scalar(select(func.clock_timestamp())), 0
    for model in (ApiKey, WidgetKey):
        others = update(model).where(model.disabled_at.is_(None), model.id.not_in(list(usable)))
        revoked += len(session.execute(others.values(disabled_at=now).returning(model.id)).all())
    for key_id, expires_at in usable.items():
        if expires_at is not None:
            earliest = func.least(ApiKey.expires_at, expires_at)  # PostgreSQL's ignores NULL, which is "never" here
            session.execute(update(ApiKey).where(ApiKey.id == key_id).values(expires_at=earliest))
    if revoked:
        audit.record(session, actor, "keys.ended_on_load", None, {"keys": revoked})
    return revoked
