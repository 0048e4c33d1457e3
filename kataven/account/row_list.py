"""Lists that are returned as they are: the rows of a table, newest first, without a session and without entities.

    AGENTS = RowList(Agent, AgentView.model_fields)
    page = AGENTS.page(context.rows, limit, after)      # Page of dictionaries with these columns

The same pages as `paging.newest_first`, at a third of its cost. For lists that need no business rule per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Text, Uuid, cast, select
from sqlalchemy.sql import ColumnElement

from kataven.account.paging import Page, Position, newest_first_statement
from kataven.tenancy.prepared_statements import PREPARED
from kataven.tenancy.serving.rows import ReadRows, RowQuery


class RowList:
    """Pages of a table's `columns`, which must include `created_at` and `id`.

    `filters` are conditions by name, each with a `bindparam` of that name. Ids are strings.
    """

    def __init__(
        self, model: type[Any], columns: Iterable[str], filters: Mapping[str, ColumnElement[bool]] | None = None
    ) -> None:
        self._model = model
        self._columns = tuple(columns)
        self._filters = dict(filters or {})
        self._queries: dict[tuple[bool, tuple[str, ...]], RowQuery] = {}

    def page(self, read: ReadRows, limit: int, after: Position | None, **given: Any) -> Page[dict[str, Any]]:
        """Up to `limit` rows after `after`, with the filters whose value is not None. Raises TenancyError."""
        values = {name: value for name, value in given.items() if value is not None}
        query = self._query(after is not None, tuple(values))
        values["at_most"] = limit + 1  # the extra row shows that another page exists
        if after is not None:
            values |= {"moment": after.created_at, "row": str(after.id)}
        rows = [dict(zip(self._columns, row, strict=True)) for row in read(query, values)]
        if len(rows) <= limit:
            return Page(rows, None)
        last = rows[limit - 1]
        created_at: datetime = last["created_at"]
        return Page(rows[:limit], Position(created_at, UUID(last["id"])))

    def _query(self, after: bool, filters: tuple[str, ...]) -> RowQuery:
        key = after, filters
        found = self._queries.get(key)
        if found is None:
            where = [self._filters[name] for name in filters]
            columns = [self._column(name) for name in self._columns]
            selected = select(*columns).prefix_with(PREPARED)
            statement = newest_first_statement(selected, self._model, "older" if after else "all", *where)
            found = self._queries[key] = RowQuery(statement)
        return found

    def _column(self, name: str) -> ColumnElement[Any]:
        column = self._model.__table__.columns[name]
        return cast(column, Text).label(name) if isinstance(column.type, Uuid) else column
