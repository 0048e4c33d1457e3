"""Pagination: parses `limit` and `cursor`, and returns an array with `Link: <…>; rel="next"` (RFC 8288)."""

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
from kataven.web.paths import requested_path
from kataven.web.schema import Query, write_json

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
NEXT_CURSOR = "X-Next-Cursor"
"""A header: the cursor of the next page. Generated clients can use it without parsing `Link`."""
CURSOR_PATTERN = "^[0-9]{1,16}-[0-9a-f]{32}$"
INVALID_CURSOR = "must be the cursor from the `Link` header of the previous page"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = TypeVar("Row")


def encode(position: Position) -> str:
    """A cursor: the sort key of the last row on the page, in microseconds and hexadecimal. Contains nothing else."""
    return f"{(position.created_at - _EPOCH) // timedelta(microseconds=1)}-{position.id.hex}"


def decode(cursor: str) -> Position:
    """The position of a cursor that matches `CURSOR_PATTERN`."""
    moment, _, row_id = cursor.partition("-")
    return Position(_EPOCH + timedelta(microseconds=int(moment)), UUID(row_id))


class PageQuery(Query):
    """Query parameters of a paginated list."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = Field(
        default=DEFAULT_LIMIT, description="The maximum number of items per page."
    )
    cursor: Annotated[str, Shaped(CURSOR_PATTERN, INVALID_CURSOR)] | None = Field(
        default=None, description="The value of `X-Next-Cursor` of the previous page. Treat it as opaque."
    )

    @property
    def after(self) -> Position | None:
        return None if self.cursor is None else decode(self.cursor)


def write_page(page: Page[Row], shape: Callable[[Row], Any], query: PageQuery) -> Response:
    """An array of the rows, each converted by `shape`, with a link to the next page if one exists."""
    response = write_json([shape(row) for row in page.rows])
    if page.next is not None:
        link_to_next(response, {**request.args.to_dict(), "limit": str(query.limit), "cursor": encode(page.next)})
    return response


def link_to_next(response: Response, query: Mapping[str, str]) -> None:
    """Set `X-Next-Cursor` to the cursor in `query`, and the `Link` header to the next page, under the path that the
    client requested, alias or not.

    The reference is relative (RFC 8288, section 3.1), so that it is correct behind a TLS proxy and never repeats a
    forged `Host`.
    """
    response.headers[NEXT_CURSOR] = query["cursor"]
    response.headers["Link"] = f'<{requested_path()}?{urlencode(query)}>; rel="next"'
