"""Refresh tokens. Each is good once and is exchanged for the next; all of one visit are a family.

A token of a family that is not its current one was used before. Then somebody holds a copy, nobody can tell who, and
the family ends: the thief and the visitor both have to begin again (RFC 9700, section 4.14.2).
"""

from __future__ import annotations

import json
from dataclasses import asdict

from kataven.widget import opaque_tokens
from kataven.widget.capacity import Capacity, SessionCounters, refusal
from kataven.widget.errors import RefreshTokenReused, RefreshTokenUnknown
from kataven.widget.store import StoreScript, WidgetStore
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession

IDLE_SECONDS = 2 * 3_600
"""How long a refresh token waits to be used."""
VISIT_SECONDS = 24 * 3_600
"""How long a visit can be prolonged, whatever happens in it."""

_BEGIN = StoreScript("begin")
_LOOK = StoreScript("look")
_ROTATE = StoreScript("rotate")


class Families:
    """In Redis, under the digest of the visit's name. A family that Redis forgot is refused like one that never was."""

    def __init__(self, store: WidgetStore, capacity: Capacity | None = None) -> None:
        self._store = store
        self._capacity = capacity or Capacity()

    def begin(self, visit: VisitorSession) -> str:
        """The first refresh token of a new family. Raises TooManyVisits or StoreUnavailable."""
        name = opaque_tokens.new_name()
        token = opaque_tokens.new_refresh_token(name)
        session_counters = self._room(visit)
        record = json.dumps(asdict(visit), ensure_ascii=False)
        arguments: list[str | int] = [opaque_tokens.digest(token), self._store.now(), record]
        arguments += [IDLE_SECONDS * 1000, VISIT_SECONDS * 1000, *session_counters.limits]
        found = self._store.run(_BEGIN, [self._key(name), *session_counters.counters], arguments)
        if found[0] == "full":
            raise refusal(found)
        return token

    def look(self, token: str) -> VisitorSession:
        """The visit that a refresh token can prolong, without prolonging it.

        Raises RefreshTokenUnknown, RefreshTokenReused (and the family has ended) or StoreUnavailable.
        """
        found = self._run(_LOOK, token, [])
        if len(found) < 2 or found[1] is None:
            raise RefreshTokenUnknown
        return _visit(found[1])

    def rotate(self, token: str, visit: VisitorSession) -> str:
        """The next refresh token of `visit`; `token` is used up.

        Of two who come at the same time one gets it, and it is worth nothing: the other ended the family. Raises what
        `look` raises.
        """
        name = opaque_tokens.session_of(token) or ""
        following = opaque_tokens.new_refresh_token(name)
        self._run(_ROTATE, token, [opaque_tokens.digest(following), IDLE_SECONDS * 1000], self._room(visit).counters)
        return following

    def _room(self, visit: VisitorSession) -> SessionCounters:
        return self._capacity.session_counters(self._store, visit.account, visit.widget_key_id)

    def _run(
        self, script: StoreScript, token: str, arguments: list[str | int], counters: tuple[str, ...] = ()
    ) -> list[str | None]:
        name = opaque_tokens.session_of(token)
        if name is None:
            raise RefreshTokenUnknown
        found = self._store.run(
            script, [self._key(name), *counters], [opaque_tokens.digest(token), self._store.now(), *arguments]
        )
        if found[0] == "reused":
            raise RefreshTokenReused
        if found[0] != "good":
            raise RefreshTokenUnknown
        return found

    def _key(self, name: str) -> str:
        return self._store.key("visit", opaque_tokens.digest(name))


def _visit(record: str) -> VisitorSession:
    try:
        fields = json.loads(record)
        visitor = fields.pop("visitor")
        return VisitorSession(**fields, visitor=Visitor(**{**visitor, "kind": VisitorKind(visitor["kind"])}))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ):  # another release wrote it, so it can't be told what it let in
        raise RefreshTokenUnknown from None
