"""Keyset paging: newest first, stable while rows are inserted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Position:
    """The last row that a reader has seen."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, and the position after which the next page begins: None on the last one."""

    rows: Sequence[Row]
    next: Position | None


def newest_first(
    session: Session, model: type[Row], limit: int, after: Position | None, *where: ColumnElement[bool]
) -> Page[Row]:
    """Up to `limit` rows of a model that has `created_at` and `id`, starting behind `after`."""
    table: Any = model
    statement = select(model).where(*where).order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)
    if after is not None:
        statement = statement.where(tuple_(table.created_at, table.id) < (after.created_at, after.id))
    rows = session.scalars(statement).all()
    if len(rows) <= limit:
        return Page(rows, None)
    last: Any = rows[limit - 1]
    return Page(rows[:limit], Position(last.created_at, last.id))
