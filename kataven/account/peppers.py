"""The number of an account's keys per pepper, and when they were created."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from kataven.account import rotation
from kataven.account.models import ApiKey, FormerSecret, WidgetKey


def in_use(session: Session) -> Counter[str]:
    """The number of usable API keys, former secrets and widget keys, by the id of the pepper of their hash."""
    usable = ApiKey.disabled_at.is_(None) & or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())
    counted: Counter[str] = Counter()
    statements = [
        select(ApiKey.pepper_id, func.count()).where(usable).group_by(ApiKey.pepper_id),
        select(WidgetKey.pepper_id, func.count()).where(WidgetKey.disabled_at.is_(None)).group_by(WidgetKey.pepper_id),
    ]
    if rotation.has_former_secrets(session):
        former = select(FormerSecret.pepper_id, func.count()).join(ApiKey, ApiKey.id == FormerSecret.key_id)
        statements.append(former.where(usable, rotation.is_accepted(func.now())).group_by(FormerSecret.pepper_id))
    for statement in statements:
        for pepper_id, count in session.execute(statement):
            counted[pepper_id] += count
    return counted


def created(session: Session) -> dict[str, tuple[datetime, datetime]]:
    """When the first and the last API key under each pepper was created, including revoked keys.

    A key that is used moves to the current pepper, so the first time is not when the pepper came into use.
    """
    times = select(ApiKey.pepper_id, func.min(ApiKey.created_at), func.max(ApiKey.created_at))
    return {pepper_id: (first, last) for pepper_id, first, last in session.execute(times.group_by(ApiKey.pepper_id))}
