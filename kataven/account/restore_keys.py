"""A dump remembers keys as they were. Loading one must not bring back what somebody has ended since.

Whatever else can be ended in an account's database belongs in here too.
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

StandingKeys = Mapping[UUID, datetime | None]
"""The keys that nobody has ended, and when they end by themselves (None: never)."""


def usable_keys(session: Session) -> StandingKeys:
    """API keys and widget keys alike."""
    found: dict[UUID, datetime | None] = {}
    for key_id, expires_at in session.execute(select(ApiKey.id, ApiKey.expires_at).where(ApiKey.disabled_at.is_(None))):
        found[key_id] = expires_at
    for key_id in session.scalars(select(WidgetKey.id).where(WidgetKey.disabled_at.is_(None))):
        found[key_id] = None
    return found


def revoke_other_keys(session: Session, usable: StandingKeys, actor: Actor) -> int:
    """End every key that is not among `standing`, and let the others live no longer than there. How many were ended."""
    now, ended = session.scalar(select(func.clock_timestamp())), 0
    for model in (ApiKey, WidgetKey):
        others = update(model).where(model.disabled_at.is_(None), model.id.not_in(list(usable)))
        ended += len(session.execute(others.values(disabled_at=now).returning(model.id)).all())
    for key_id, expires_at in usable.items():
        if expires_at is not None:
            earliest = func.least(ApiKey.expires_at, expires_at)  # PostgreSQL's ignores NULL, which is "never" here
            session.execute(update(ApiKey).where(ApiKey.id == key_id).values(expires_at=earliest))
    if ended:
        audit.record(session, actor, "keys.ended_on_load", None, {"keys": ended})
    return ended
