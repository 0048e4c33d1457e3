"""What the list of keys shows: search, chip, order and position, as query parameters.

Links from the list to a key, and the forms of the key's pages, repeat these parameters. So each page leads back to the
row from which it was opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from flask import request

from kataven.account.key_listing import GROUPS, Group, KeyOrder, OrderPosition
from kataven.hub.pages.api_keys.blueprint import HOME
from kataven.web.schema import read_id

MAX_SEARCH_LENGTH = 200
_GROUPS = {str(group): group for group in GROUPS}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BETWEEN = "~"
_NEXT, _PREVIOUS = "cursor", "newer"
"""The parameters of a position: the page starts after it, or ends before it."""
_ID_LENGTH = 36


@dataclass(frozen=True, slots=True)
class ListState:
    """One page of the list."""

    submitted: str = ""
    """The search as it was entered."""
    show: Group | None = None
    order: KeyOrder = KeyOrder.NEWEST
    position: OrderPosition | None = None

    @property
    def text(self) -> str:
        return self.submitted.strip()

    @property
    def can_match(self) -> bool:
        return len(self.text) <= MAX_SEARCH_LENGTH and "\x00" not in self.text

    @property
    def fields(self) -> Mapping[str, str]:
        """The query parameters. Empty for the list as it is opened from the menu."""
        fields: dict[str, str] = {}
        if self.submitted:
            fields["q"] = self.submitted
        if self.show is not None:
            fields["show"] = str(self.show)
        if self.order is not KeyOrder.NEWEST:
            fields["sort"] = str(self.order)
        if self.position is not None:
            fields[_PREVIOUS if self.position.backwards else _NEXT] = _encode(self.position)
        return fields

    @property
    def query(self) -> str:
        """`?q=server&show=idle`, or empty."""
        return f"?{urlencode(self.fields)}" if self.fields else ""

    @property
    def path(self) -> str:
        return HOME + self.query

    def row(self, key_id: Any) -> str:
        """The row of a key in this page of the list."""
        return f"{self.path}#key-{key_id}"

    def key(self, key_id: Any, page: str = "") -> str:
        """A page of a key, which leads back to this page of the list."""
        return f"{HOME}/{key_id}{page and '/'}{page}{self.query}"

    def at(self, position: OrderPosition | None) -> ListState:
        return replace(self, position=position)

    def showing(self, show: Group | None) -> ListState:
        """The first page with another chip."""
        return replace(self, show=show, position=None)

    def sorted_by(self, order: KeyOrder) -> ListState:
        """The first page in another order; in the reverse order if the list has this one."""
        return replace(self, order=order.reverse if order is self.order else order, position=None)


def requested() -> ListState:
    """The state in the query of this request. Unknown values are ignored."""
    sort = request.args.get("sort", "")
    order = KeyOrder(sort) if sort in set(KeyOrder) else KeyOrder.NEWEST
    submitted = request.args.get("q", "")[: MAX_SEARCH_LENGTH + 100]
    return ListState(submitted, _GROUPS.get(request.args.get("show", "")), order, _requested_position(order))


def _requested_position(order: KeyOrder) -> OrderPosition | None:
    for name in (_NEXT, _PREVIOUS):
        if given := request.args.get(name):
            return _decode(order, given, backwards=name == _PREVIOUS)
    return None


def _encode(position: OrderPosition) -> str:
    value = position.value
    if isinstance(value, datetime):
        value = str((value - _EPOCH) // timedelta(microseconds=1))
    return f"{position.id}{_BETWEEN}{value or ''}"


def _decode(order: KeyOrder, given: str, *, backwards: bool) -> OrderPosition | None:
    key_id, value = read_id(given[:_ID_LENGTH]), given[_ID_LENGTH + 1 :]
    if key_id is None or given[_ID_LENGTH : _ID_LENGTH + 1] != _BETWEEN:
        return None
    if order in (KeyOrder.NAME, KeyOrder.NAME_REVERSED):
        is_name = len(value) <= MAX_SEARCH_LENGTH and "\x00" not in value
        return OrderPosition(value, key_id, backwards) if is_name else None
    return _at_time(key_id, value, order, backwards=backwards)


def _at_time(key_id: UUID, value: str, order: KeyOrder, *, backwards: bool) -> OrderPosition | None:
    if not value:
        can_be_null = order not in (KeyOrder.NEWEST, KeyOrder.OLDEST)
        return OrderPosition(None, key_id, backwards) if can_be_null else None
    if not value.isascii() or not value.isdigit():
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=int(value[:20]))
    except OverflowError:
        return None
    return OrderPosition(moment, key_id, backwards)
