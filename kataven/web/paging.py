"""`?limit=` and `?cursor=` in; an array and `Link: <…>; rel="next"` (RFC 8288) out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from flask import Response, request
from pydantic import Field

from kataven.account.paging import Page, Position
from kataven.validation import Shaped
from kataven.web.paths import asked_path
from kataven.web.schema import Query, write_json

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
CURSOR_PATTERN = "^[0-9]{1,16}-[0-9a-f]{32}$"
NO_CURSOR = "must be a cursor as the `Link` of the page before has it"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = TypeVar("Row")


def encode(position: Position) -> str:
    """A cursor: nothing but the sort key of a row that the client has seen, in microseconds and hexadecimal."""
    return f"{(position.created_at - _EPOCH) // timedelta(microseconds=1)}-{position.id.hex}"


def decode(cursor: str) -> Position:
    """The position that a text of `CURSOR_PATTERN` stands for."""
    moment, _, row_id = cursor.partition("-")
    return Position(_EPOCH + timedelta(microseconds=int(moment)), UUID(row_id))


class PageQuery(Query):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: Annotated[str, Shaped(CURSOR_PATTERN, NO_CURSOR)] | None = Field(
        default=None, description="From the `Link` of the page before; clients need not look inside."
    )

    @property
    def after(self) -> Position | None:
        return None if self.cursor is None else decode(self.cursor)


def write_page(page: Page[Row], shape: Callable[[Row], Any], query: PageQuery) -> Response:
    """An array of the rows, each through `shape`, with a link to the next page if there is one."""
    response = write_json([shape(row) for row in page.rows])
    if page.next is not None:
        link_to_next(response, {**request.args.to_dict(), "limit": str(query.limit), "cursor": encode(page.next)})
    return response


def link_to_next(response: Response, query: Mapping[str, str]) -> None:
    """Tell the client where the next page is: at the path it asked for, alias or not.

    A relative reference (RFC 8288, section 3.1): a proxy with TLS in front leaves it right, and a forged `Host` is
    repeated to nobody.
    """
    response.headers["Link"] = f'<{asked_path()}?{urlencode(query)}>; rel="next"'
