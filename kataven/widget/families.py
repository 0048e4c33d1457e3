"""Refresh tokens. Each is good once and is exchanged for the next; all of one visit are a family.

A token of a family that is not its current one was used before. Then somebody holds a copy, nobody can tell who, and
the family ends: the thief and the visitor both have to begin again (RFC 9700, section 4.14.2).
"""

from __future__ import annotations

import json
from dataclasses import asdict

from kataven.widget import tickets
from kataven.widget.capacity import Capacity, Room, refusal
from kataven.widget.errors import RefreshTokenReused, RefreshTokenUnknown
from kataven.widget.store import Script, Store
from kataven.widget.visitor_tokens import Visit, Visitor, VisitorKind

IDLE_SECONDS = 2 * 3_600
"""How long a refresh token waits to be used."""
VISIT_SECONDS = 24 * 3_600
"""How long a visit can be prolonged, whatever happens in it."""

_BEGIN = Script("begin")
_LOOK = Script("look")
_ROTATE = Script("rotate")


class Families:
    """In Redis, under the digest of the visit's name. A family that Redis forgot is refused like one that never was."""

    def __init__(self, store: Store, capacity: Capacity | None = None) -> None:
        self._store = store
        self._capacity = capacity or Capacity()

    def begin(self, visit: Visit) -> str:
        """The first refresh token of a new family. Raises TooManyVisits or StoreUnavailable."""
        name = tickets.new_name()
        token = tickets.new_refresh_token(name)
        room = self._room(visit)
        record = json.dumps(asdict(visit), ensure_ascii=False)
        arguments: list[str | int] = [tickets.digest(token), self._store.now(), record]
        arguments += [IDLE_SECONDS * 1000, VISIT_SECONDS * 1000, *room.limits]
        found = self._store.run(_BEGIN, [self._key(name), *room.counters], arguments)
        if found[0] == "full":
            raise refusal(found)
        return token

    def look(self, token: str) -> Visit:
        """The visit that a refresh token can prolong, without prolonging it.

        Raises RefreshTokenUnknown, RefreshTokenReused (and the family has ended) or StoreUnavailable.
        """
        found = self._run(_LOOK, token, [])
        if len(found) < 2 or found[1] is None:
            raise RefreshTokenUnknown
        return _visit(found[1])

    def rotate(self, token: str, visit: Visit) -> str:
        """The next refresh token of `visit`; `token` is used up.

        Of two who come at the same time one gets it, and it is worth nothing: the other ended the family. Raises what
        `look` raises.
        """
        name = tickets.visit_of(token) or ""
        following = tickets.new_refresh_token(name)
        self._run(_ROTATE, token, [tickets.digest(following), IDLE_SECONDS * 1000], self._room(visit).counters)
        return following

    def _room(self, visit: Visit) -> Room:
        return self._capacity.room(self._store, visit.account, visit.widget_key_id)

    def _run(
        self, script: Script, token: str, arguments: list[str | int], counters: tuple[str, ...] = ()
    ) -> list[str | None]:
        name = tickets.visit_of(token)
        if name is None:
            raise RefreshTokenUnknown
        found = self._store.run(
            script, [self._key(name), *counters], [tickets.digest(token), self._store.now(), *arguments]
        )
        if found[0] == "reused":
            raise RefreshTokenReused
        if found[0] != "good":
            raise RefreshTokenUnknown
        return found

    def _key(self, name: str) -> str:
        return self._store.key("visit", tickets.digest(name))


def _visit(record: str) -> Visit:
    try:
        fields = json.loads(record)
        visitor = fields.pop("visitor")
        return Visit(**fields, visitor=Visitor(**{**visitor, "kind": VisitorKind(visitor["kind"])}))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ):  # another release wrote it, so it can't be told what it let in
        raise RefreshTokenUnknown from None
