"""Pages of API keys in several orders, and counts of keys by status and by what their owner should look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, and_, cast, false, func, literal, not_, select, text, true, tuple_
from sqlalchemy.orm import Session

from kataven.account.key_search import is_due, matches_text
from kataven.account.key_status import KeyColumns, KeyStatus, has_status, is_current
from kataven.account.models import ApiKey

IDLE_FOR = timedelta(days=90)
ANNOUNCED = (timedelta(days=1), timedelta(days=3), timedelta(days=14))
"""How long before its expiry a key is announced."""
EXPIRES_SOON = ANNOUNCED[-1]


class Hygiene(StrEnum):
    """What the owner of a key should look at. Only keys that are neither revoked nor expired."""

    NEVER_USED = "never_used"
    IDLE = "idle"
    """Not used for `IDLE_FOR`; a key that was never used counts from its creation."""
    NEVER_EXPIRES = "never_expires"
    EXPIRES_SOON = "expires_soon"
    FULL_ACCESS = "full_access"
    BROWSER_USE = "browser_use"
    """A browser sent the key, and the request was rejected."""
    ROTATION_DUE = "rotation_due"
    """The secret is older than the account's policy allows."""


Group = KeyStatus | Hygiene
GROUPS: tuple[Group, ...] = (*KeyStatus, *Hygiene)


class KeyOrder(StrEnum):
    """The orders of a list. A name with `-` is the reverse of the other."""

    NEWEST = "-created"
    OLDEST = "created"
    NAME = "name"
    NAME_REVERSED = "-name"
    LAST_USED = "-used"
    LEAST_USED = "used"
    """Keys that were never used first."""
    EXPIRY = "expires"
    """Keys that never expire last."""
    EXPIRY_REVERSED = "-expires"

    @property
    def is_descending(self) -> bool:
        return self.value.startswith("-")

    @property
    def reverse(self) -> KeyOrder:
        return KeyOrder(self.value.removeprefix("-") if self.is_descending else f"-{self.value}")


@dataclass(frozen=True, slots=True)
class OrderPosition:
    """The row from which a page continues: its value in the order, its id, and the direction."""

    value: datetime | str | None
    id: UUID
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """What a list shows. `rotate_after` is the account's policy."""

    text: str = ""
    group: Group | None = None
    order: KeyOrder = KeyOrder.NEWEST
    rotate_after: timedelta | None = None

    def in_group(self, columns: KeyColumns) -> ColumnElement[bool]:
        return true() if self.group is None else _in_group(self.group, columns, self.rotate_after)


@dataclass(frozen=True, slots=True)
class KeyPage:
    """The keys of a page, and the positions of the previous and the next page."""

    keys: Sequence[ApiKey]
    previous: OrderPosition | None
    next: OrderPosition | None


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """Numbers of keys that match the text of the query."""

    total: int
    groups: Mapping[Group, int]
    expiring: tuple[int, ...]
    """How many keys expire within each of `ANNOUNCED`."""
    listed: int
    """How many match the whole query."""
    before: int
    """How many of these precede the page."""


def page_of_keys(
    session: Session, wanted: KeyQuery, columns: KeyColumns, limit: int, start: OrderPosition | None
) -> KeyPage:
    """Up to `limit` keys from `start`. Stable while keys are added: a page continues from a key, not from a number."""
    if start is not None and start.backwards:
        found = _rows(session, wanted, columns, limit, start)
        if len(found) > limit:
            shown = found[:limit][::-1]
            return KeyPage(shown, _position(wanted.order, shown[0], backwards=True), _position(wanted.order, shown[-1]))
        start = None  # a full first page
    found = _rows(session, wanted, columns, limit, start)
    shown = found[:limit]
    previous = _position(wanted.order, shown[0], backwards=True) if start is not None and shown else None
    return KeyPage(shown, previous, _position(wanted.order, shown[-1]) if len(found) > limit else None)


def count_keys(session: Session, wanted: KeyQuery, columns: KeyColumns, first: ApiKey | None) -> KeyCounts:
    """Counts in one statement. `first` is the first key of the page."""
    now, listed = func.clock_timestamp(), wanted.in_group(columns)
    before: ColumnElement[bool] = false()
    if first is not None:
        before = and_(listed, _follows(wanted.order, _position(wanted.order, first), reverse=True))
    figures = [
        func.count(),
        func.count().filter(listed),
        func.count().filter(before),
        *(func.count().filter(and_(*is_current(), ApiKey.expires_at <= now + within)) for within in ANNOUNCED),
        *(func.count().filter(_in_group(group, columns, wanted.rotate_after)) for group in GROUPS),
    ]
    total, matching, preceding, *others = session.execute(
        select(*figures).select_from(ApiKey).where(*matches_text(wanted.text))
    ).one()
    groups = dict(zip(GROUPS, others[len(ANNOUNCED) :], strict=True))
    return KeyCounts(total, groups, tuple(others[: len(ANNOUNCED)]), matching, preceding)


def value_in(order: KeyOrder, key: ApiKey) -> datetime | str | None:
    """The value of a key by which `order` sorts."""
    values: Mapping[str, datetime | str | None] = {
        "created": key.created_at,
        "name": key.name,
        "used": key.last_used_at,
        "expires": key.expires_at,
    }
    return values[order.value.removeprefix("-")]


def _in_group(group: Group, columns: KeyColumns, rotate_after: timedelta | None) -> ColumnElement[bool]:
    if isinstance(group, KeyStatus):
        return and_(*has_status(group, columns))
    now = func.clock_timestamp()
    if group is Hygiene.ROTATION_DUE:
        return is_due(rotate_after, columns)
    conditions = {
        Hygiene.NEVER_USED: ApiKey.last_used_at.is_(None),
        Hygiene.IDLE: func.coalesce(ApiKey.last_used_at, ApiKey.created_at) < now - IDLE_FOR,
        Hygiene.NEVER_EXPIRES: ApiKey.expires_at.is_(None),
        Hygiene.EXPIRES_SOON: ApiKey.expires_at <= now + EXPIRES_SOON,
        Hygiene.FULL_ACCESS: columns.scopes.is_(None),
        Hygiene.BROWSER_USE: and_(columns.browser_use_at.is_not(None), not_(columns.from_browsers)),
    }
    return and_(*is_current(), conditions[group])


def _sort_value(order: KeyOrder, value: Any) -> ColumnElement[Any]:
    """The expression that `order` sorts by, of a column or of a value."""
    name = order.value.removeprefix("-")
    if name == "name":
        return func.lower(value)
    if name == "used":
        return func.coalesce(value, text("'-infinity'::timestamptz"))
    if name == "expires":
        return func.coalesce(value, text("'infinity'::timestamptz"))
    return value  # type: ignore[no-any-return]


_COLUMNS = {
    "created": ApiKey.created_at,
    "name": ApiKey.name,
    "used": ApiKey.last_used_at,
    "expires": ApiKey.expires_at,
}


def _follows(order: KeyOrder, position: OrderPosition, *, reverse: bool) -> ColumnElement[bool]:
    """Whether a row follows `position` in the order; with `reverse`, whether it precedes it."""
    name = order.value.removeprefix("-")
    given = literal(position.value) if name == "name" else cast(literal(position.value), DateTime(timezone=True))
    here = tuple_(_sort_value(order, given), literal(position.id))
    row = tuple_(_sort_value(order, _COLUMNS[name]), ApiKey.id)
    return row < here if order.is_descending != reverse else row > here


def _rows(
    session: Session, wanted: KeyQuery, columns: KeyColumns, limit: int, start: OrderPosition | None
) -> Sequence[ApiKey]:
    """Up to `limit` + 1 keys, in the reverse order if `start` is backwards."""
    backwards = start is not None and start.backwards
    # The rows are read after the limit was applied: `ApiKey.columns` is computed for each row below a sort.
    found = select(ApiKey.id).where(*matches_text(wanted.text), wanted.in_group(columns)).limit(limit + 1)
    if start is not None:
        found = found.where(_follows(wanted.order, start, reverse=backwards))
    sort = (_sort_value(wanted.order, _COLUMNS[wanted.order.value.removeprefix("-")]), ApiKey.id)
    is_descending = wanted.order.is_descending != backwards
    in_order = [one.desc() if is_descending else one.asc() for one in sort]
    of_page = found.order_by(*in_order).subquery()
    return session.scalars(select(ApiKey).join(of_page, of_page.c.id == ApiKey.id).order_by(*in_order)).all()


def _position(order: KeyOrder, key: ApiKey, *, backwards: bool = False) -> OrderPosition:
    return OrderPosition(value_in(order, key), key.id, backwards)
