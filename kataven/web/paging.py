"""Pagination: parses `limit` and `cursor`, and returns an array with `Link: <…>; rel="next"` (RFC 8288)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import orjson
from flask import Response, request
from pydantic import Field

from kataven.account.paging import Page, Position
from kataven.validation import Shaped
from kataven.web.paths import requested_path
from kataven.web.problems import FieldError, InvalidRequest
from kataven.web.schema import Query, write_json

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
NEXT_CURSOR = "X-Next-Cursor"
"""A header: the cursor of the next page. Generated clients can use it without parsing `Link`."""
CURSOR_PATTERN = "^[0-9]{1,16}-[0-9a-f]{32}$"
INVALID_CURSOR = "must be the cursor from the `Link` header of the previous page"

_BEFORE_FILTERS = "."
_FILTERED_CURSOR_PATTERN = "^[0-9]{1,16}-[0-9a-f]{32}(?:[.][0-9a-f]{12})?$"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = TypeVar("Row")


def encode(position: Position) -> str:
    """A cursor: the sort key of the last row on the page, in microseconds and hexadecimal. Contains nothing else."""
    return f"{(position.created_at - _EPOCH) // timedelta(microseconds=1)}-{position.id.hex}"


def decode(cursor: str) -> Position:
    """The position of a cursor that matches `CURSOR_PATTERN`."""
    moment, _, row_id = cursor.partition(_BEFORE_FILTERS)[0].partition("-")
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

    @property
    def filters(self) -> str:
        """What a cursor of this list ends with. Empty without filters."""
        return ""


class FilteredPageQuery(PageQuery):
    """Query parameters of a paginated list with filters. All other fields are filters. A cursor contains a digest of
    them, so that it is not valid with others: it would then skip rows without a sign of it."""

    cursor: Annotated[str, Shaped(_FILTERED_CURSOR_PATTERN, INVALID_CURSOR)] | None = Field(
        default=None,
        description="The value of `X-Next-Cursor` of the previous page, which must have had the same filters. Treat it "
        "as opaque.",
    )

    @property
    def filters(self) -> str:
        given = self.model_dump(mode="json", exclude={"limit", "cursor"}, exclude_none=True)
        if not given:
            return ""
        digest = hashlib.blake2b(orjson.dumps(given, option=orjson.OPT_SORT_KEYS), digest_size=6).hexdigest()
        return _BEFORE_FILTERS + digest

    @property
    def after(self) -> Position | None:
        """Raises InvalidRequest if the cursor belongs to a list with other filters."""
        if self.cursor is not None and self.cursor.partition(_BEFORE_FILTERS)[2] != self.filters[1:]:
            raise InvalidRequest([FieldError("cursor", "belongs to a list with other filters; request the first page")])
        return super().after


def write_page(page: Page[Row], shape: Callable[[Row], Any], query: PageQuery) -> Response:
    """An array of the rows, each converted by `shape`, with a link to the next page if one exists."""
    return write_rows(Page([shape(row) for row in page.rows], page.next), query)


def write_rows(page: Page[Any], query: PageQuery) -> Response:
    """The same for rows that are returned as they are, as those of a `RowList`."""
    response = write_json(page.rows)
    if page.next is not None:
        cursor = encode(page.next) + query.filters
        link_to_next(response, {**request.args.to_dict(), "limit": str(query.limit), "cursor": cursor})
    return response


def link_to_next(response: Response, query: Mapping[str, str]) -> None:
    """Set `X-Next-Cursor` to the cursor in `query`, and the `Link` header to the next page, under the path that the
    client requested, alias or not.

    The reference is relative (RFC 8288, section 3.1), so that it is correct behind a TLS proxy and never repeats a
    forged `Host`.
    """
    response.headers[NEXT_CURSOR] = query["cursor"]
    response.headers["Link"] = f'<{requested_path()}?{urlencode(query)}>; rel="next"'
