"""The list of keys: a table with search, chips, sorting and a selection for changes of several keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from werkzeug.wrappers import Response as AnyResponse

from kataven.account.key_listing import (
    ANNOUNCED,
    EXPIRES_SOON,
    IDLE_FOR,
    Group,
    Hygiene,
    KeyCounts,
    KeyOrder,
    KeyPage,
    KeyQuery,
    count_keys,
    page_of_keys,
)
from kataven.account.key_status import KeyStatus, columns_of
from kataven.hub.formatting import pluralize
from kataven.hub.page_blueprint import MEMBERS, HubRequest, render
from kataven.hub.pages.api_keys import list_state
from kataven.hub.pages.api_keys.blueprint import HOME, blueprint
from kataven.hub.pages.api_keys.calls import calls_of_keys
from kataven.hub.pages.api_keys.list_state import ListState
from kataven.hub.pages.api_keys.rows import row_of

PAGE_SIZE = 50

CHIPS: tuple[tuple[Group | None, str], ...] = (
    (None, "All"),
    (KeyStatus.ACTIVE, "Active"),
    (KeyStatus.PAUSED, "Paused"),
    (KeyStatus.NOT_YET_VALID, "Not yet valid"),
    (KeyStatus.EXPIRED, "Expired"),
    (KeyStatus.REVOKED, "Revoked"),
    (Hygiene.NEVER_USED, "Never used"),
    (Hygiene.IDLE, f"Idle for {IDLE_FOR.days} days"),
    (Hygiene.NEVER_EXPIRES, "Never expires"),
    (Hygiene.EXPIRES_SOON, f"Expires within {EXPIRES_SOON.days} days"),
    (Hygiene.FULL_ACCESS, "Full access"),
    (Hygiene.BROWSER_USE, "Used from a browser"),
    (Hygiene.ROTATION_DUE, "Secret too old"),
)
COLUMNS = (
    ("Key", KeyOrder.NAME),
    ("Status", None),
    ("Access", None),
    ("24 hours", None),
    ("Last used", KeyOrder.LAST_USED),
    ("Expires", KeyOrder.EXPIRY),
    ("Created", KeyOrder.NEWEST),
)
"""The headings, and the order that each selects first."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter with the number of its keys."""

    label: str
    path: str
    count: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a column. `sorted` is a value of `aria-sort`."""

    label: str
    path: str | None
    sorted: str | None


@blueprint.page(HOME, MEMBERS)
def show_api_keys(hub_request: HubRequest) -> AnyResponse:
    state, account = list_state.requested(), hub_request.account
    days = account.rotate_after_days
    rotate_after = None if days is None else timedelta(days=days)
    wanted = KeyQuery(state.text if state.can_match else "", state.show, state.order, rotate_after)
    columns = columns_of(account.tenant)
    with hub_request.reading() as session:
        page = KeyPage((), None, None)
        if state.can_match:
            page = page_of_keys(session, wanted, columns, PAGE_SIZE, state.position)
        counts = count_keys(session, wanted, columns, page.keys[0] if page.keys else None)
        rows = [row_of(key, days) for key in page.keys]
    calls = calls_of_keys(hub_request, [key.id for key in rows])
    return render(
        "api_keys/list.html",
        calls=calls,
        named_sparks=[(key.name, calls.sparks[key.id]) for key in rows if key.id in calls.sparks],
        keys=rows,
        state=state,
        chips=_chips(state, counts),
        headings=[_heading(state, label, order) for label, order in COLUMNS],
        announcements=_announcements(counts),
        soon_path=ListState(show=Hygiene.EXPIRES_SOON, order=KeyOrder.EXPIRY).path,
        previous_path=page.previous and state.at(page.previous).path,
        next_path=page.next and state.at(page.next).path,
        range_label=_range(len(rows), counts) if state.can_match else "",
        has_keys=counts.total > 0 or bool(state.text),
        rotate_after_days=days,
    )


def _chips(state: ListState, counts: KeyCounts) -> Sequence[Chip]:
    """The chips with keys, and the chosen one."""
    found = []
    for group, label in CHIPS:
        count, chosen = counts.total if group is None else counts.groups[group], group is state.show
        if count or chosen or group is None:
            found.append(Chip(label, state.showing(group).path, count, chosen))
    return found


def _heading(state: ListState, label: str, order: KeyOrder | None) -> Heading:
    if order is None:
        return Heading(label, None, None)
    is_sorted = state.order in (order, order.reverse)
    direction = "descending" if state.order.is_descending else "ascending"
    return Heading(label, state.sorted_by(order).path, direction if is_sorted else None)


def _announcements(counts: KeyCounts) -> Sequence[str]:
    """`1 key expires within 1 day`, for each term of the announcements. A key counts in the shortest one."""
    found, earlier = [], 0
    for count, within in zip(counts.expiring, ANNOUNCED, strict=True):
        if count > earlier:
            verb = "expires" if count - earlier == 1 else "expire"
            found.append(f"{pluralize(count - earlier, 'key')} {verb} within {pluralize(within.days, 'day')}")
        earlier = count
    return found


def _range(shown: int, counts: KeyCounts) -> str:
    """`51 to 100 of 300`, or `12 keys`."""
    if shown == counts.listed:
        return pluralize(shown, "key")
    return f"{counts.before + 1:,} to {counts.before + shown:,} of {counts.listed:,}" if shown else ""
