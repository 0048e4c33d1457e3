"""Long lists, a page at a time: the API's cursors in links, forwards and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request
from sqlalchemy.orm import Session

from kataven.account import paging as rows
from kataven.account.paging import Page, Position
from kataven.web import paging

CURSORS = {"cursor": False, "newer": True}
"""Names in the query, and whether the page ends before the row that the cursor names."""
Row = TypeVar("Row")


def requested_position() -> Position | None:
    """Where this page begins or ends; None, the first page, for a cursor that is none."""
    for name, to_newer in CURSORS.items():
        if cursor := _cursor(name):
            return replace(paging.decode(cursor), to_newer=to_newer)
    return None


def links(page: Page[Any]) -> Mapping[str, str]:
    """The same list with the same filters from there on: to the pages before and after, those that there are."""
    found = {}
    for relation, name, position in (("previous", "newer", page.previous), ("next", "cursor", page.next)):
        if position is not None:
            query = {field: value for field, value in request.args.items() if field not in CURSORS}
            found[relation] = f"{request.path}?{urlencode({**query, name: paging.encode(position)})}"
    return found


def place(session: Session, model: type[Row], page: Page[Row]) -> str:
    """`51 to 100 of 300`; empty where the page is the whole list. Counts every row, so not for lists without an end."""
    if not page.rows or (page.next is None and page.previous is None):
        return ""
    before, total = rows.count(session, model, page.rows[0])
    return f"{before + 1:,} to {before + len(page.rows):,} of {total:,}"


def here() -> str:
    """This page of the list as a query, to come back to it after a form; empty for the first page."""
    query = {name: cursor for name in CURSORS if (cursor := _cursor(name))}
    return f"?{urlencode(query)}" if query else ""


def _cursor(name: str) -> str | None:
    text = request.args.get(name, "")
    return text if re.fullmatch(paging.CURSOR_PATTERN, text) else None
