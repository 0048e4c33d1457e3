"""Finds API keys with filters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, false, func, not_, or_
from sqlalchemy.orm import Session

from kataven.account.key_status import ANY_COLUMNS, KeyColumns, KeyStatus, has_status, is_current
from kataven.account.models import ApiKey
from kataven.account.paging import Page, Position, newest_first


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """A key must match all fields that are set."""

    text: str = ""
    """A part of the name (ignoring case), or the complete id or hint."""
    status: KeyStatus | None = None
    """By the clock of the database."""
    unused_for: timedelta | None = None
    """A key that was never used counts as unused since its creation."""
    expires_within: timedelta | None = None
    """Expired keys don't expire any more."""
    rotation_due: bool | None = None
    """Whether the secret is older than `rotate_after`. Revoked and expired keys are never due."""
    rotate_after: timedelta | None = None
    """The account's policy; None: no key is due."""

    def conditions(self, columns: KeyColumns) -> list[ColumnElement[bool]]:
        where = matches_text(self.text)
        now = func.clock_timestamp()
        if self.status is not None:
            where += has_status(self.status, columns)
        if self.unused_for is not None:
            where.append(func.coalesce(ApiKey.last_used_at, ApiKey.created_at) < now - self.unused_for)
        if self.expires_within is not None:
            where += [ApiKey.disabled_at.is_(None), ApiKey.expires_at > now]
            where.append(ApiKey.expires_at <= now + self.expires_within)
        if self.rotation_due is not None:
            due = is_due(self.rotate_after, columns)
            where.append(due if self.rotation_due else not_(due))
        return where


def is_due(rotate_after: timedelta | None, columns: KeyColumns) -> ColumnElement[bool]:
    """`key_status.is_rotation_due`, in SQL."""
    if rotate_after is None:
        return false()
    return and_(*is_current(), columns.secret_created_at <= func.clock_timestamp() - rotate_after)


def search(
    session: Session, limit: int, start: Position | None, wanted: KeyFilter, columns: KeyColumns = ANY_COLUMNS
) -> Page[ApiKey]:
    """A page of matching keys, newest first."""
    return newest_first(session, ApiKey, limit, start, *wanted.conditions(columns))


def matches_text(text: str) -> list[ColumnElement[bool]]:
    """The condition for a part of the name (ignoring case), or the complete id or hint; none if the text is empty."""
    if not text:
        return []
    found = [ApiKey.name.icontains(text, autoescape=True), ApiKey.hint == text]
    if (key_id := _id_in(text)) is not None:
        found.append(ApiKey.id == key_id)
    return [or_(*found)]


def _id_in(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
