"""What was typed into a form whose session is over, kept in Redis for minutes until the same person is signed in again.

Only a browser that had a session keeps anything, so strangers can't fill Redis. One person has a few places, and a new
form takes the oldest one. The content is sealed with a key that only the browser's cookie holds, and its place is named
by a digest of the person: another person who signs in with the same browser finds nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from redis import Redis

from kataven.hub.sealing import seal, unseal

KEPT_SECONDS: Final = 15 * 60
"""As long as a sign-in may take."""
MAX_PER_USER: Final = 4
MAX_FORM_BYTES: Final = 512 * 1024
"""As JSON. An agent's whole prompt fits, whatever it is written in."""
_PURPOSE: Final = b"kataven hub kept form"


@dataclass(frozen=True, slots=True)
class EndedSession:
    """Who was signed in with this browser until its session ended, and the key of the forms that are kept for it."""

    subject: str
    account: str | None
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeptForm:
    """One form as it was sent. Forms of the Hub hold no secrets; its CSRF token is not among the fields."""

    path: str
    account: str
    """The one that the form was opened in."""
    fields: Mapping[str, str] = field(repr=False)


class KeptForms:
    """Puts them by and finds them. Methods raise redis.RedisError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix

    def put(self, ended_session: EndedSession, form: KeptForm) -> int | None:
        """The place that the form has from now on; None if it is too long."""
        content = json.dumps(asdict(form), ensure_ascii=False).encode()
        if len(content) > MAX_FORM_BYTES:
            return None
        counter = f"{self._prefix}kept:{_user_digest(ended_session.subject)}:next"
        count = self._redis.incr(counter)
        assert isinstance(count, int)  # noqa: S101  redis-py's types allow for an asynchronous client
        place = count % MAX_PER_USER
        self._redis.expire(counter, KEPT_SECONDS)
        name = self._name(ended_session.subject, place)
        self._redis.set(name, seal(content, ended_session.key, name, _PURPOSE), ex=KEPT_SECONDS)
        return place

    def find(self, ended_session: EndedSession, subject: str, place: int) -> KeptForm | None:
        """The form at a place, if it was put there by this browser for the person who is signed in now."""
        name = self._name(subject, place)
        sealed = self._redis.get(name)
        content = unseal(sealed, ended_session.key, name, _PURPOSE) if isinstance(sealed, bytes) else None
        return None if content is None else KeptForm(**json.loads(content))

    def _name(self, subject: str, place: int) -> str:
        return f"{self._prefix}kept:{_user_digest(subject)}:{place}"


def _user_digest(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()
