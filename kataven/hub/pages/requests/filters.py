"""What the list of requests shows: filters and position, as query parameters.

Links from the list to a request repeat these parameters, so that its page leads back to the row.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import request

from kataven.account.paging import Position
from kataven.hub.page_blueprint import LABEL
from kataven.hub.pages.requests.blueprint import HOME
from kataven.hub.paging import CURSORS, requested_position
from kataven.usage.outcomes import CallOutcome
from kataven.web import paging

FIELDS: Final = ("caller", "outcome", "code", "route", "address", "since", "until")
MAX_LENGTH: Final = 300
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?")
_LAST = UUID(int=2**128 - 1)
"""No row of the same time comes before a position with this id."""


@dataclass(frozen=True, slots=True)
class RequestFilters:
    """One page of the list."""

    submitted: Mapping[str, str] = field(default_factory=dict)
    """The filters as they were entered, without empty ones."""
    position: Position | None = None

    @property
    def fields(self) -> Mapping[str, str]:
        """The query parameters. Empty for the list as it is opened from the menu."""
        if self.position is None:
            return self.submitted
        name = next(name for name, to_newer in CURSORS.items() if to_newer is self.position.to_newer)
        return {**self.submitted, name: paging.encode(self.position)}

    @property
    def path(self) -> str:
        return f"{HOME}?{urlencode(self.fields)}" if self.fields else HOME

    def get(self, name: str) -> str:
        return self.submitted.get(name, "")

    def row(self, row_id: UUID) -> str:
        """The row of a request in this page of the list."""
        return f"{self.path}#r-{row_id}"

    def request(self, row_id: UUID) -> str:
        """The page of a request, which leads back to this page of the list."""
        return f"{HOME}/{row_id}" + (f"?{urlencode(self.fields)}" if self.fields else "")

    def at(self, position: Position | None) -> RequestFilters:
        return replace(self, position=position)

    def starting_with(self, created_at: datetime) -> RequestFilters:
        """The page that starts with the requests of this time. New requests don't change it."""
        return self.at(Position(created_at, _LAST))

    def having(self, name: str, value: str) -> RequestFilters:
        """The first page with another value of a filter."""
        others = {other: given for other, given in self.submitted.items() if other != name}
        return RequestFilters({**others, **({name: value} if value else {})})

    @property
    def outcome(self) -> CallOutcome | None:
        given = self.get("outcome")
        return CallOutcome(given) if given in set(CallOutcome) else None

    @property
    def address(self) -> str | None:
        """As the log has it. None if there is no such filter, or if it is invalid."""
        try:
            return str(ipaddress.ip_address(self.get("address").strip()))
        except ValueError:
            return None

    def time(self, name: str) -> datetime | None:
        """The value of `since` or `until`: a time in UTC, as a browser's field has it."""
        given = self.get(name)
        try:
            return datetime.fromisoformat(given).replace(tzinfo=UTC) if _TIME.fullmatch(given) else None
        except ValueError:
            return None

    def problems(self) -> Mapping[str, str]:
        """What is wrong with filters, by field."""
        found = {name: f"{LABEL} must be a date and a time" for name in ("since", "until") if self._is_wrong_time(name)}
        since, until = self.time("since"), self.time("until")
        if since and until and since >= until:
            found["until"] = f"{LABEL} must be after the start"
        if self.get("address") and self.address is None:
            found["address"] = f"{LABEL} must be an IP address, such as 203.0.113.7"
        return found

    def _is_wrong_time(self, name: str) -> bool:
        return bool(self.get(name)) and self.time(name) is None


def requested(*, with_addresses: bool) -> RequestFilters:
    """The filters in the query of this request. `with_addresses`: whether the user sees the addresses of callers."""
    names = FIELDS if with_addresses else [name for name in FIELDS if name != "address"]
    given = {name: request.args.get(name, "").strip()[:MAX_LENGTH].replace("\0", "") for name in names}
    return RequestFilters({name: value for name, value in given.items() if value}, requested_position())


def of_caller(caller: UUID, since: datetime | None = None, until: datetime | None = None) -> str:
    """The list with the requests of a caller."""
    given = {"caller": str(caller)}
    for name, at in (("since", since), ("until", until)):
        if at is not None:
            given[name] = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")
    return RequestFilters(given).path


def by_request_id(request_id: str) -> str:
    """The page of the latest request with this `X-Request-ID`."""
    return f"{HOME}/{quote(request_id, safe='')}"
