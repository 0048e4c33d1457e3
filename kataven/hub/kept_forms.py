"""Forms that were submitted after their session ended: kept in Redis for minutes, until the same user signs in again.

Only a browser that had a session can store a form, so unauthenticated clients can't fill Redis. Each user has a few
slots, and a new form replaces the oldest one. The content is encrypted with a key that only the browser's cookie
contains. The name of a slot contains a digest of the user, so another user of the same browser finds nothing.
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
"""The time limit of a sign-in."""
MAX_PER_USER: Final = 4
MAX_FORM_BYTES: Final = 512 * 1024
"""As JSON. An agent's longest prompt fits, in any script."""
_PURPOSE: Final = b"kataven hub kept form"


@dataclass(frozen=True, slots=True)
class EndedSession:
    """The user of a session that ended, and the encryption key of the forms that are kept for them."""

    subject: str
    account: str | None
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeptForm:
    """A form as it was submitted. Forms of the Hub contain no secrets. `fields` doesn't include the CSRF token."""

    path: str
    account: str
    """The account in which the form was opened."""
    fields: Mapping[str, str] = field(repr=False)


class KeptForms:
    """Stores and reads kept forms. Methods raise redis.RedisError."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix

    def put(self, ended_session: EndedSession, form: KeptForm) -> int | None:
        """Store the form. Returns its slot, or None if the form is too long."""
        content = json.dumps(asdict(form), ensure_ascii=False).encode()
        if len(content) > MAX_FORM_BYTES:
            return None
        counter = f"{self._prefix}kept:{_user_digest(ended_session.subject)}:next"
        count = self._redis.incr(counter)
        assert isinstance(count, int)  # noqa: S101  redis-py's types allow for an asynchronous client
        slot = count % MAX_PER_USER
        self._redis.expire(counter, KEPT_SECONDS)
        name = self._name(ended_session.subject, slot)
        self._redis.set(name, seal(content, ended_session.key, name, _PURPOSE), ex=KEPT_SECONDS)
        return slot

    def find(self, ended_session: EndedSession, subject: str, slot: int) -> KeptForm | None:
        """The form in a slot, if this browser stored it for this user."""
        name = self._name(subject, slot)
        sealed = self._redis.get(name)
        content = unseal(sealed, ended_session.key, name, _PURPOSE) if isinstance(sealed, bytes) else None
        return None if content is None else KeptForm(**json.loads(content))

    def _name(self, subject: str, slot: int) -> str:
        return f"{self._prefix}kept:{_user_digest(subject)}:{slot}"


def _user_digest(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()
