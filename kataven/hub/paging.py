"""Long lists, a page at a time: the API's cursors in a link."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from flask import request

from kataven.account.paging import Position
from kataven.web import paging


def asked_position() -> Position | None:
    """After which row this page begins; the first page for a cursor that is none."""
    cursor = request.args.get("cursor", "")
    return paging.decode(cursor) if re.fullmatch(paging.CURSOR_PATTERN, cursor) else None


def next_link(position: Position | None) -> str | None:
    """The same list from there on, with the same filters; None on the last page."""
    if position is None:
        return None
    query = {name: value for name, value in request.args.items() if name != "cursor"}
    return f"{request.path}?{urlencode({**query, 'cursor': paging.encode(position)})}"
