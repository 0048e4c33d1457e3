"""Browser sessions: stored in Redis, encrypted with a secret that only the browser's cookie contains.

Before sign-in, Redis stores nothing for a browser: see `anonymous`.

The cookie is a random 256-bit secret. The digest of the secret names the entry in Redis, and a key derived from it
encrypts the entry (AES-256-GCM; RFC 5869 for the key). A reader of Redis, or of a backup, gets no token and can't sign
in. A writer to Redis can't forge a session.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from redis.exceptions import RedisError

from kataven.hub.anonymous import ANONYMOUS_SECONDS, COOKIE_PREFIX, MAX_SEALED_LENGTH, AnonymousCookies, sealed_length
from kataven.hub.kept_forms import EndedSession, KeptForm, KeptForms
from kataven.hub.sealing import seal, unseal
from kataven.hub.session_list import ListedSession, SessionList
from kataven.redis_clients import SilenceGate, redis_client

IDLE_SECONDS = 8 * 3600
"""A session without a request for this long expires."""
MAX_AGE_SECONDS = 24 * 3600
"""A session expires after this time even if it is in use."""
LOCK_SECONDS = 15
"""Longer than the issuer's timeout."""
FORM_SECONDS = 24 * 3600
ENDED_SESSION_SECONDS = 3 * 24 * 3600
"""How long after a sign-in a browser is known to have had a session: long enough for a weekend."""
MAX_SIGN_INS = 5
"""Sign-ins in progress in one browser, each in its own tab."""
_SECRET_BYTES = 32
_MAX_COOKIE_LENGTH = 200
_SESSION = b"kataven hub session"
_SID = b"kataven hub session at the issuer"
_ENDED_SESSION = b"kataven hub recalled"


class SessionsUnavailable(Exception):
    """Redis is unavailable, so sessions can't be read or written."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in in progress: the values that the issuer's response must match, and the page to show afterwards."""

    state: str
    nonce: str
    verifier: str = field(repr=False)
    account: str
    """Empty if the user entered an e-mail address: the account is chosen after the sign-in."""
    next_path: str
    began_at: float = 0.0
    email_domain: str = ""


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """A signed-in user, with the issuer's tokens."""

    subject: str
    name: str
    access_token: str = field(repr=False)
    nonce: str = field(repr=False)
    """From the sign-in. An ID token in a refresh response must contain the same nonce, or none."""
    refresh_token: str | None = field(repr=False, default=None)
    sid: str | None = field(repr=False, default=None, compare=False)
    """The session at the issuer, at the sign-in. Not stored with the session: see `Sessions.remember_subject`."""


@dataclass(frozen=True, slots=True)
class Session:
    """The session of one browser. `secret` is the cookie's value, and is never stored."""

    secret: str = field(repr=False)
    csrf: str = field(repr=False)
    """The CSRF token in each form of this session."""
    began_at: float
    user: SignedInUser | None = None
    account: str | None = None
    """The account that the user has selected."""
    recorded_in: str | None = None
    """The account whose audit log contains the sign-in. The sign-out is recorded there too."""
    sign_ins: tuple[SignIn, ...] = ()
    """Sign-ins in progress, the latest one last."""
    ended_session: EndedSession | None = None
    """The earlier session of this browser, if forms may have been kept for its user."""
    notice: str | None = None
    """The message at the top of the next page, such as the receipt of a revocation."""
    fresh: bool = field(default=False, repr=False, compare=False)
    """Whether the session is new and was never stored."""

    @property
    def id(self) -> str:
        """The digest that names the session in Redis. It can't be used as a cookie."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    @property
    def handle(self) -> str:
        """An identifier of the session for places that must not contain the secret, such as names of counters."""
        return hashlib.sha256(b"handle of " + self.secret.encode()).hexdigest()

    def with_(self, **changes: Any) -> Session:
        return replace(self, **changes)

    def with_sign_in(self, sign_in: SignIn) -> Session:
        """Add a sign-in in progress. The oldest one is dropped if there are more than MAX_SIGN_INS."""
        return self.with_(sign_ins=(*self.sign_ins, sign_in)[-MAX_SIGN_INS:])

    def pending_sign_in(self, state: str, now: float) -> SignIn | None:
        """The sign-in in progress with this state, unless it expired."""
        for one in self.sign_ins:
            if hmac.compare_digest(one.state.encode(), state.encode()) and now - one.began_at < ANONYMOUS_SECONDS:
                return one
        return None

    def without_sign_in(self, sign_in: SignIn) -> Session:
        return self.with_(sign_ins=tuple(one for one in self.sign_ins if one != sign_in))


def new_csrf() -> str:
    """A new CSRF token for a session. Forms with the previous token become stale."""
    return secrets.token_urlsafe(_SECRET_BYTES)


class Sessions:
    """Reads and writes the sessions. Every method raises SessionsUnavailable. `clock`: seconds since the epoch."""

    def __init__(
        self,
        redis_url: str,
        *,
        prefix: str = "hub:",
        clock: Callable[[], float] = time.time,
        timeout_seconds: float = 2,
    ) -> None:
        # Resending is safe: each command has the same result when it runs twice. A form id that is sent twice counts
        # as used, and the form is rejected.
        self._gate = SilenceGate()
        self._redis = redis_client(redis_url, timeout_seconds=timeout_seconds, resend=True, gate=self._gate)
        self._prefix = prefix
        self._clock = clock
        self._anonymous = AnonymousCookies(self._redis, prefix, clock)
        self._kept = KeptForms(self._redis, prefix)
        self._list = SessionList(self._redis, prefix, clock, idle_seconds=IDLE_SECONDS, max_age_seconds=MAX_AGE_SECONDS)

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def new(self) -> Session:
        """A new session without a user. `save` stores it."""
        return Session(secrets.token_urlsafe(_SECRET_BYTES), new_csrf(), self._clock(), fresh=True)

    def read(self, secret: str | None, *, extend: bool = True) -> Session | None:
        """The session of a cookie, or None if it ended or never existed. `extend`: whether this is a use of it."""
        if not secret or not secret.isascii():
            return None
        if secret.startswith(f"{COOKIE_PREFIX}."):
            return self._read_anonymous(secret)
        if len(secret) > _MAX_COOKIE_LENGTH:
            return None
        name = self._name(secret)
        try:
            sealed = self._redis.getex(name, ex=IDLE_SECONDS) if extend else self._redis.get(name)
        except RedisError as error:
            raise SessionsUnavailable from error
        found = _unsealed(sealed, secret, name, _SESSION)
        if found is None or self._clock() - found["began_at"] >= MAX_AGE_SECONDS:
            return None
        return _from_json(secret, found)

    def cookie_of(self, session: Session) -> str:
        """A cookie that contains the whole session of a browser that has not signed in. Redis stores nothing."""
        assert session.user is None  # noqa: S101  the issuer's tokens never go into a cookie
        try:
            return self._anonymous.seal(_for_cookie(session))
        except RedisError as error:
            raise SessionsUnavailable from error

    def save(self, session: Session) -> None:
        """Store the session. A session that has ended is not stored again: the user signed out in another window."""
        name = self._name(session.secret)
        sealed = seal(json.dumps(_to_json(session)).encode(), session.secret, name, _SESSION)
        try:
            self._redis.set(name, sealed, ex=IDLE_SECONDS, xx=not session.fresh)
            if session.fresh and session.user is not None:
                ended_name = self._ended_session_name(session.secret)
                content = {"subject": session.user.subject, "account": session.account}
                sealed = seal(json.dumps(content).encode(), session.secret, ended_name, _ENDED_SESSION)
                self._redis.set(ended_name, sealed, ex=ENDED_SESSION_SECONDS)
        except RedisError as error:
            raise SessionsUnavailable from error

    def end(self, session: Session) -> None:
        """Delete the session."""
        try:
            self._redis.delete(self._name(session.secret), self._ended_session_name(session.secret))
            if session.user is not None:
                self._list.remove(session.user.subject, session.id)
        except RedisError as error:
            raise SessionsUnavailable from error

    def rotate(self, session: Session) -> Session:
        """The same session with a new secret. The old secret is invalidated, which prevents session fixation."""
        fresh = self.new()
        self.end(session)
        return session.with_(secret=fresh.secret, csrf=fresh.csrf, began_at=fresh.began_at, fresh=True)

    def find_ended_session(self, secret: str | None) -> EndedSession | None:
        """The user of a cookie whose session expired, or None for a cookie that the Hub did not issue."""
        if not secret or not secret.isascii() or len(secret) > _MAX_COOKIE_LENGTH:
            return None
        if secret.startswith(f"{COOKIE_PREFIX}."):
            return None
        name = self._ended_session_name(secret)
        try:
            found = _unsealed(self._redis.get(name), secret, name, _ENDED_SESSION)
        except RedisError as error:
            raise SessionsUnavailable from error
        return None if found is None else ended_session_of(found["subject"], found["account"])

    def keep_form(self, ended_session: EndedSession, form: KeptForm) -> int | None:
        """Keep a form until its user has signed in again. Returns its slot, or None if the form is too long."""
        try:
            return self._kept.put(ended_session, form)
        except RedisError as error:
            raise SessionsUnavailable from error

    def kept_form(self, session: Session, slot: int) -> KeptForm | None:
        """The form that was kept for this session's user in this browser."""
        if session.ended_session is None or session.user is None:
            return None
        try:
            return self._kept.find(session.ended_session, session.user.subject, slot)
        except RedisError as error:
            raise SessionsUnavailable from error

    @contextmanager
    def locked(self, session: Session) -> Iterator[Session | None]:
        """Serialize requests of one session. Yields the session as it is under the lock, or None if it ended."""
        name = f"{self._prefix}alone:{self._name(session.secret)}"
        lock = self._redis.lock(name, timeout=LOCK_SECONDS, blocking_timeout=LOCK_SECONDS)
        try:
            if not lock.acquire():
                raise SessionsUnavailable
        except RedisError as error:
            raise SessionsUnavailable from error
        try:
            yield self.read(session.secret)
        finally:
            with suppress(RedisError), self._gate.bypassed():  # the lock expires
                lock.release()

    def use_form(self, form_id: str) -> bool:
        """Whether this form is submitted for the first time. A reload must not show a secret or create a second one."""
        name = f"{self._prefix}form:{hashlib.sha256(form_id.encode()).hexdigest()}"
        try:
            return bool(self._redis.set(name, b"", nx=True, ex=FORM_SECONDS))
        except RedisError as error:
            raise SessionsUnavailable from error

    def start_cooldown(self, action: str, seconds: int) -> bool:
        """Whether no process of the Hub started a cooldown of `action` in the last `seconds`. Starts one if so."""
        try:
            return bool(self._redis.set(f"{self._prefix}turn:{action}", b"", nx=True, ex=seconds))
        except RedisError as error:
            raise SessionsUnavailable from error

    def record_use(self, session: Session, device: str, address: str, *, is_live_update: bool = False) -> None:
        """Record the use of a session in the list of its user's sessions. Never raises.

        A live update is recorded only if its address is new: it is no use, but the user must see where it comes from.
        """
        if session.user is not None:
            self._list.record(
                session.user.subject, session.id, session.began_at, device, address, only_moves=is_live_update
            )

    def listed(self, user: SignedInUser) -> list[ListedSession]:
        """The sessions of a user, the latest use first."""
        try:
            return self._list.of_user(user.subject)
        except RedisError as error:
            raise SessionsUnavailable from error

    def end_listed(self, user: SignedInUser, session_id: str) -> bool:
        """End a session of this user. Returns whether it was one. The next request of its browser must sign in."""
        try:
            if not self._list.remove(user.subject, session_id):
                return False
            self._redis.delete(f"{self._prefix}session:{session_id}")
        except RedisError as error:
            raise SessionsUnavailable from error
        return True

    def remember_subject(self, sid: str, subject: str) -> None:
        """Remember whose session at the issuer this is, for a logout token that names only the session.

        Encrypted with a key from `sid`, which only the issuer's tokens contain.
        """
        name = self._sid_name(sid)
        try:
            self._redis.set(name, seal(subject.encode(), sid, name, _SID), ex=MAX_AGE_SECONDS)
        except RedisError as error:
            raise SessionsUnavailable from error

    def subject_of(self, sid: str) -> str | None:
        """The user who signed in at the Hub in this session at the issuer, within `MAX_AGE_SECONDS`."""
        name = self._sid_name(sid)
        try:
            sealed = self._redis.get(name)
        except RedisError as error:
            raise SessionsUnavailable from error
        content = unseal(sealed, sid, name, _SID) if isinstance(sealed, bytes) else None
        return None if content is None else content.decode()

    def close(self) -> None:
        self._redis.close()

    def _read_anonymous(self, cookie: str) -> Session | None:
        try:
            found = self._anonymous.open(cookie)
        except RedisError as error:
            raise SessionsUnavailable from error
        if found is None:
            return None
        fresh = {"person": None, "began_at": self._clock(), "fresh": True}
        return _from_json(secrets.token_urlsafe(_SECRET_BYTES), {**found, **fresh})

    def _name(self, secret: str) -> str:
        return f"{self._prefix}session:{hashlib.sha256(secret.encode()).hexdigest()}"

    def _sid_name(self, sid: str) -> str:
        return f"{self._prefix}sid:{hashlib.sha256(sid.encode()).hexdigest()}"

    def _ended_session_name(self, secret: str) -> str:
        return f"{self._prefix}recalled:{hashlib.sha256(secret.encode()).hexdigest()}"


def ended_session_of(subject: str, account: str | None) -> EndedSession:
    """An ended session, with a new encryption key for the forms that are kept for its user."""
    return EndedSession(subject, account, secrets.token_urlsafe(_SECRET_BYTES))


def _unsealed(sealed: object, secret: str, name: str, purpose: bytes) -> dict[str, Any] | None:
    content = unseal(sealed, secret, name, purpose) if isinstance(sealed, bytes) else None
    if content is None:
        return None
    found: dict[str, Any] = json.loads(content)
    return found


def _for_cookie(session: Session) -> dict[str, Any]:
    """The content of the cookie. If it is too long, the oldest sign-ins lose their next page, or are dropped."""
    ended_session = None if session.ended_session is None else asdict(session.ended_session)
    sign_ins = [asdict(one) for one in session.sign_ins]
    while True:
        content = {"csrf": session.csrf, "sign_ins": sign_ins, "before": ended_session}
        if sealed_length(content) <= MAX_SEALED_LENGTH or len(sign_ins) <= 1:
            return content
        with_next_path = next((one for one in sign_ins[:-1] if len(one["next_path"]) > 1), None)
        if with_next_path is None:
            del sign_ins[0]
        else:
            with_next_path["next_path"] = "/"


def _to_json(session: Session) -> dict[str, Any]:
    """The stored form. Its names stay the same across releases, so that an upgrade signs no user out."""
    content = asdict(session)
    del content["secret"], content["fresh"]
    if content["user"] is not None:
        del content["user"]["sid"]  # a process of an earlier release could not read the session
    content["person"], content["before"] = content.pop("user"), content.pop("ended_session")
    return content


def _from_json(secret: str, found: dict[str, Any]) -> Session | None:
    try:
        user, sign_ins, ended_session = found.pop("person"), found.pop("sign_ins"), found.pop("before")
        return Session(
            secret=secret,
            user=None if user is None else SignedInUser(**user),
            sign_ins=tuple(SignIn(**one) for one in sign_ins),
            ended_session=None if ended_session is None else EndedSession(**ended_session),
            **found,
        )
    except (KeyError, TypeError):  # from another release: the user must sign in again
        return None
