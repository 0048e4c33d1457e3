"""A request of the log as the pages show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kataven.account.models import LoggedRequest
from kataven.usage.callers import NamedCaller
from kataven.usage.pending import NOBODY

A_USER = "A user"
"""Members don't see the names of other users."""


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request. Members see neither addresses nor names and ids of users."""

    id: UUID
    at: datetime
    request_id: str
    route: str
    status: int
    outcome: str
    code: str
    milliseconds: float
    caller: UUID | None
    is_key: bool
    caller_name: str
    caller_exists: bool
    address: str
    agent: str

    @property
    def key_path(self) -> str | None:
        """The page of the API key, if it exists."""
        return f"/settings/api-keys/{self.caller}" if self.is_key and self.caller_exists else None


def row_of(logged: LoggedRequest, names: Mapping[UUID, NamedCaller], *, with_addresses: bool) -> RequestRow:
    is_key, found = logged.kind == "api_key", names.get(logged.caller)
    name = logged.name if found is None else found.name
    is_hidden = not is_key and not with_addresses
    if is_hidden:
        name = A_USER
    return RequestRow(
        id=logged.id,
        at=logged.created_at,
        request_id=logged.request_id,
        route=logged.route,
        status=logged.status,
        outcome=logged.outcome,
        code=logged.code,
        milliseconds=logged.milliseconds,
        caller=None if is_hidden or str(logged.caller) == NOBODY else logged.caller,
        is_key=is_key,
        caller_name=name or ("A deleted key" if is_key else A_USER),
        caller_exists=found is not None,
        address=logged.address if with_addresses else "",
        agent=logged.agent if with_addresses else "",
    )
