"""Keyset paging: newest first, stable while rows are inserted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Integer, Select, bindparam, select, tuple_
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
    statement = _statement(table, after is not None)
    values: dict[str, Any] = {"at_most": limit + 1}
    if where:
        statement = statement.where(*where)
    if after is not None:
        values |= {"moment": after.created_at, "row": after.id}
    rows = session.scalars(statement, values).all()
    if len(rows) <= limit:
        return Page(rows, None)
    last: Any = rows[limit - 1]
    return Page(rows[:limit], Position(last.created_at, last.id))


@cache
def _statement(model: type[Any], after: bool) -> Select[Any]:
    """Built once: putting a statement together costs as much as half of its execution."""
    table: Any = model
    statement = (
        select(model).order_by(table.created_at.desc(), table.id.desc()).limit(bindparam("at_most", type_=Integer))
    )
    if after:
        here = bindparam("moment", type_=table.created_at.type), bindparam("row", type_=table.id.type)
        statement = statement.where(tuple_(table.created_at, table.id) < tuple_(*here))
    return statement
