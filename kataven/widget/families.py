"""Refresh token families. A refresh token is valid once and is exchanged for the next. One session has one family.

If a token of a family is not the current one, it was used before, so two parties hold tokens of the session. The family
then ends, and both must start a new session (RFC 9700, section 4.14.2).
"""

from __future__ import annotations

import json
from dataclasses import asdict

from kataven.redis_clients.script import RedisScript
from kataven.widget import opaque_tokens
from kataven.widget.capacity import Capacity, SessionCounters, too_many_sessions
from kataven.widget.errors import RefreshTokenReused, RefreshTokenUnknown
from kataven.widget.store import WidgetStore, store_script
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession

IDLE_SECONDS = 2 * 3_600
"""The lifetime of an unused refresh token."""
SESSION_SECONDS = 24 * 3_600
"""The maximum duration of a visitor session."""

_CREATE = store_script("create")
_READ = store_script("read")
_ROTATE = store_script("rotate")


class Families:
    """Families in Redis, by the digest of the session's name. A family that is not stored is rejected as unknown."""

    def __init__(self, store: WidgetStore, capacity: Capacity | None = None) -> None:
        self._store = store
        self._capacity = capacity or Capacity()

    def create(self, visitor_session: VisitorSession) -> str:
        """Create a family. Returns its first refresh token. Raises TooManySessions or StoreUnavailable."""
        name = opaque_tokens.new_secret()
        token = opaque_tokens.new_refresh_token(name)
        session_counters = self._counters(visitor_session)
        record = json.dumps(asdict(visitor_session), ensure_ascii=False)
        arguments: list[str | int] = [opaque_tokens.digest(token), self._store.now(), record]
        arguments += [IDLE_SECONDS * 1000, SESSION_SECONDS * 1000, *session_counters.limits]
        found = self._store.run(_CREATE, [self._key(name), *session_counters.counters], arguments)
        if found[0] == "full":
            raise too_many_sessions(found)
        return token

    def read(self, token: str) -> VisitorSession:
        """The visitor session of a refresh token. The token is not used.

        Raises RefreshTokenUnknown, RefreshTokenReused (the family ends) or StoreUnavailable.
        """
        found = self._run(_READ, token, [])
        if len(found) < 2 or found[1] is None:
            raise RefreshTokenUnknown
        return _session_from(found[1])

    def rotate(self, token: str, visitor_session: VisitorSession) -> str:
        """Exchange `token` for the next refresh token of the session.

        If a token is sent twice at the same time, one request gets a token, and the other one ends the family. Raises
        the errors of `read`.
        """
        name = opaque_tokens.session_name(token) or ""
        next_token = opaque_tokens.new_refresh_token(name)
        self._run(
            _ROTATE,
            token,
            [opaque_tokens.digest(next_token), IDLE_SECONDS * 1000],
            self._counters(visitor_session).counters,
        )
        return next_token

    def _counters(self, visitor_session: VisitorSession) -> SessionCounters:
        return self._capacity.session_counters(self._store, visitor_session.account, visitor_session.widget_key_id)

    def _run(
        self, script: RedisScript, token: str, arguments: list[str | int], counters: tuple[str, ...] = ()
    ) -> list[str | None]:
        name = opaque_tokens.session_name(token)
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


def _session_from(record: str) -> VisitorSession:
    try:
        fields = json.loads(record)
        visitor = fields.pop("visitor")
        return VisitorSession(**fields, visitor=Visitor(**{**visitor, "kind": VisitorKind(visitor["kind"])}))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ):  # written by another release, so its content is unknown
        raise RefreshTokenUnknown from None
