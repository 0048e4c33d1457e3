"""The list of a user's sessions in Redis: device, address and last use of each, so that a user can end them.

An entry is written at the first request of a session on a worker, and again at most once in five minutes. It is
encrypted with a key from the user's `sub`, and contains neither the cookie's secret nor a token. The name of an entry
is the digest that names the session itself, which is sufficient to delete the session, and not to use it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from redis.exceptions import RedisError

from kataven.hub.sealing import seal, unseal

RECORD_SECONDS = 300.0
MAX_SESSIONS = 50
"""Sessions per user in the list. More remain valid, and end with all others."""
MAX_RECORDED = 10_000
_PURPOSE = b"kataven hub list of sessions"


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session of a user. Times are Unix seconds."""

    id: str
    """The digest of its secret."""
    device: str
    address: str
    began_at: float
    seen_at: float


class SessionList:
    """`idle_seconds` and `max_age_seconds` are when sessions expire. `clock`: seconds since the epoch."""

    def __init__(
        self, redis: Any, prefix: str, clock: Callable[[], float], *, idle_seconds: float, max_age_seconds: float
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._max_age_seconds = max_age_seconds
        self._recorded: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def record(
        self, subject: str, session_id: str, began_at: float, device: str, address: str, *, only_moves: bool = False
    ) -> None:
        """Record that a session is used now. Without Redis, nothing is recorded.

        `only_moves`: nothing is recorded if the address is the last one that this process saw.
        """
        now = self._clock()
        recorded_at, recorded_from = self._recorded.get(session_id, (0.0, ""))
        if recorded_from == address and (only_moves or now - recorded_at < RECORD_SECONDS):
            return
        with self._lock:
            if len(self._recorded) >= MAX_RECORDED:
                self._recorded.clear()
            self._recorded[session_id] = now, address
        name = self._name(subject)
        entry = ListedSession(session_id, device, address, began_at, now)
        sealed = seal(json.dumps(asdict(entry)).encode(), subject, f"{name} {session_id}", _PURPOSE)
        try:
            self._redis.hset(name, session_id, sealed)
            self._redis.expire(name, round(self._max_age_seconds))
        except RedisError:
            self._recorded.pop(session_id, None)

    def of_user(self, subject: str) -> list[ListedSession]:
        """The sessions of a user that have not expired, the latest use first. Raises RedisError."""
        name, now = self._name(subject), self._clock()
        found, expired = [], []
        for field, sealed in self._redis.hgetall(name).items():
            session_id = field.decode() if isinstance(field, bytes) else field
            content = unseal(sealed, subject, f"{name} {session_id}", _PURPOSE)
            entry = None if content is None else ListedSession(**json.loads(content))
            if entry is None or not self._is_current(entry, now):
                expired.append(field)
            else:
                found.append(entry)
        found.sort(key=lambda one: one.seen_at, reverse=True)
        if expired:
            self._redis.hdel(name, *expired)
        return found[:MAX_SESSIONS]

    def remove(self, subject: str, session_id: str) -> bool:
        """Remove an entry. Returns whether the user had it. Raises RedisError."""
        self._recorded.pop(session_id, None)
        return bool(self._redis.hdel(self._name(subject), session_id))

    def _is_current(self, entry: ListedSession, now: float) -> bool:
        idle = now - entry.seen_at > self._idle_seconds + RECORD_SECONDS
        return not idle and now - entry.began_at < self._max_age_seconds

    def _name(self, subject: str) -> str:
        return f"{self._prefix}sessions-of:{hashlib.sha256(subject.encode()).hexdigest()}"
