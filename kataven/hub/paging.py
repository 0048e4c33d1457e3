"""Pagination of lists: the API's cursors in links to the next and previous page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from kataven.account import paging as rows
from kataven.account.paging import Page, Position
from kataven.web import paging

CURSORS = {"cursor": False, "newer": True}
"""Query parameters, and whether the page ends before the row of the cursor."""
Row = TypeVar("Row")


def requested_position() -> Position | None:
    """The position of the requested page. None, the first page, if the cursor is missing or malformed."""
    for name, to_newer in CURSORS.items():
        if cursor := _cursor(name):
            return replace(paging.decode(cursor), to_newer=to_newer)
    return None


def page_links(page: Page[Any]) -> Mapping[str, str]:
    """Links to the previous and next page of the list, with the same filters, if these pages exist."""
    found = {}
    for relation, name, position in (("previous", "newer", page.previous), ("next", "cursor", page.next)):
        if position is not None:
            query = {field: value for field, value in request.args.items() if field not in CURSORS}
            found[relation] = f"{request.path}?{urlencode({**query, name: paging.encode(position)})}"
    return found


def range_label(session: Session, model: type[Row], page: Page[Row], *where: ColumnElement[bool]) -> str:
    """`51 to 100 of 300`, or empty if the page is the whole list. Counts every row that matches `where`: not for
    unbounded lists."""
    if not page.rows or (page.next is None and page.previous is None):
        return ""
    before, total = rows.count(session, model, page.rows[0], *where)
    return f"{before + 1:,} to {before + len(page.rows):,} of {total:,}"


def list_query() -> str:
    """The query of this page of the list, to return to it after a form. Empty for the first page."""
    query = {name: cursor for name in CURSORS if (cursor := _cursor(name))}
    return f"?{urlencode(query)}" if query else ""


def _cursor(name: str) -> str | None:
    text = request.args.get(name, "")
    return text if re.fullmatch(paging.CURSOR_PATTERN, text) else None
