"""Keyset paging: newest first, stable while rows are inserted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from sqlalchemy import Integer, Select, bindparam, func, literal, select, tuple_
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

Row = TypeVar("Row")

_Which = Literal["all", "older", "newer"]
"""Which rows of the table a page can have, relative to its position."""


@dataclass(frozen=True, slots=True)
class Position:
    """The row from which a page continues, and the direction."""

    created_at: datetime
    id: UUID
    to_newer: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """The rows of a page, and the positions of the next and previous page, or None at the end."""

    rows: Sequence[Row]
    next: Position | None
    previous: Position | None = None


def newest_first(
    session: Session, model: type[Row], limit: int, start: Position | None, *where: ColumnElement[bool]
) -> Page[Row]:
    """Up to `limit` rows after `start`, or before it if `start.to_newer`. The model needs `created_at` and `id`."""
    if start is not None and start.to_newer:
        rows = _rows(session, model, limit, start, *where)
        if len(rows) > limit:
            shown = rows[:limit][::-1]
            return Page(shown, _position(shown[-1]), _position(shown[0], to_newer=True))
        start = None  # return a full first page
    rows = _rows(session, model, limit, start, *where)
    previous = _position(rows[0], to_newer=True) if start is not None and rows else None
    if len(rows) <= limit:
        return Page(rows, None, previous)
    return Page(rows[:limit], _position(rows[limit - 1]), previous)


def count(session: Session, model: type[Row], row: Row, *where: ColumnElement[bool]) -> tuple[int, int]:
    """The number of rows that are newer than `row`, and the number of all rows, of those that match `where`."""
    table, seen = model, row  # type: Any, Any
    key = tuple_(table.created_at, table.id)
    newer = func.count().filter(key > tuple_(literal(seen.created_at), literal(seen.id)))
    before, total = session.execute(select(newer, func.count()).select_from(table).where(*where)).one()
    return before, total


def _rows(
    session: Session, model: type[Row], limit: int, start: Position | None, *where: ColumnElement[bool]
) -> Sequence[Row]:
    """Up to `limit` + 1 rows. The extra row shows that another page exists."""
    table: Any = model
    statement = _statement(table, "all" if start is None else "newer" if start.to_newer else "older")
    values: dict[str, Any] = {"at_most": limit + 1}
    if where:
        statement = statement.where(*where)
    if start is not None:
        values |= {"moment": start.created_at, "row": start.id}
    return session.scalars(statement, values).all()


def _position(row: Any, *, to_newer: bool = False) -> Position:
    return Position(row.created_at, row.id, to_newer)


@cache
def _statement(model: type[Any], which: _Which) -> Select[Any]:
    """Cached, because building the statement costs half as much as executing it."""
    return newest_first_statement(select(model), model, which)


def newest_first_statement(
    selected: Select[Any], model: type[Any], which: _Which, *where: ColumnElement[bool]
) -> Select[Any]:
    """`selected`, in the order of a page, with the parameters `at_most`, and `moment` and `row` of the position."""
    table: Any = model
    key = tuple_(table.created_at, table.id)
    here = tuple_(bindparam("moment", type_=table.created_at.type), bindparam("row", type_=table.id.type))
    statement = selected.where(*where).limit(bindparam("at_most", type_=Integer))
    if which == "newer":
        return statement.where(key > here).order_by(table.created_at, table.id)
    if which == "older":
        statement = statement.where(key < here)
    return statement.order_by(table.created_at.desc(), table.id.desc())
