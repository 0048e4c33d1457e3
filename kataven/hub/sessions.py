"""What is remembered of a browser between two requests: in Redis, sealed with what only the browser holds.

Until somebody has signed in there, nothing is in Redis: see `anonymous`.

The cookie is a random 256-bit secret. Its digest names the entry in Redis and a key derived from it seals what stands
there (AES-256-GCM; RFC 5869 for the key), so whoever reads Redis, or a backup of it, finds no token and signs in as
nobody; and whoever can write there can't make a session up.
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
from kataven.redis_clients import redis_client

IDLE_SECONDS = 8 * 3600
"""Without a request for this long, a session is over."""
MAX_AGE_SECONDS = 24 * 3600
"""And after this long in any case: sign in anew every day."""
LOCK_SECONDS = 15
"""Longer than the issuer may take to answer."""
FORM_SECONDS = 24 * 3600
ENDED_SESSION_SECONDS = 3 * 24 * 3600
"""For this long after somebody signed in, it is known that the browser had a session: over a weekend."""
MAX_SIGN_INS = 5
"""Under way at the same time in one browser, each in a tab of its own."""
_SECRET_BYTES = 32
_SESSION = b"kataven hub session"
_RECALLED = b"kataven hub recalled"


class SessionsUnavailable(Exception):
    """Redis can't be reached, so nobody can be told from anybody."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in under way: what the issuer's answer has to fit, and where it should lead."""

    state: str
    nonce: str
    verifier: str = field(repr=False)
    account: str
    next_path: str
    began_at: float = 0.0


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """Who signed in, with what the issuer gave for them."""

    subject: str
    name: str
    access_token: str = field(repr=False)
    nonce: str = field(repr=False)
    """From the sign-in. An ID token in a refresh response must contain the same nonce, or none."""
    refresh_token: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class Session:
    """One browser. `secret` is the cookie's value, and is stored nowhere."""

    secret: str = field(repr=False)
    csrf: str = field(repr=False)
    """What each form of this session carries."""
    began_at: float
    user: SignedInUser | None = None
    account: str | None = None
    """The one that the person is in."""
    recorded_in: str | None = None
    """The account whose audit trail contains the sign-in; the sign-out is recorded there too."""
    sign_ins: tuple[SignIn, ...] = ()
    """Those that are under way, the latest one last."""
    ended_session: EndedSession | None = None
    """Whose session ended here, if forms may have been kept for them."""
    notice: str | None = None
    """What the next page has to say first, such as the receipt of what was just revoked."""
    fresh: bool = field(default=False, repr=False, compare=False)
    """Whether it was made just now, and never kept."""

    @property
    def handle(self) -> str:
        """Names the session where its secret must not stand, such as in the name of what is counted for it."""
        return hashlib.sha256(b"handle of " + self.secret.encode()).hexdigest()

    def with_(self, **changes: Any) -> Session:
        return replace(self, **changes)

    def with_sign_in(self, sign_in: SignIn) -> Session:
        """With one more sign-in under way. The oldest is given up for it if there are too many."""
        return self.with_(sign_ins=(*self.sign_ins, sign_in)[-MAX_SIGN_INS:])

    def pending(self, state: str, now: float) -> SignIn | None:
        """The sign-in under way that an answer with this state is for."""
        for one in self.sign_ins:
            if hmac.compare_digest(one.state.encode(), state.encode()) and now - one.began_at < ANONYMOUS_SECONDS:
                return one
        return None

    def without_sign_in(self, sign_in: SignIn) -> Session:
        return self.with_(sign_ins=tuple(one for one in self.sign_ins if one != sign_in))


def new_csrf() -> str:
    """What the forms of a session carry from now on; those that were sent to the browser before are out of date."""
    return secrets.token_urlsafe(_SECRET_BYTES)


class Sessions:
    """The sessions of every browser. Every method raises SessionsUnavailable. `clock`: seconds since the epoch."""

    def __init__(
        self,
        redis_url: str,
        *,
        prefix: str = "hub:",
        clock: Callable[[], float] = time.time,
        timeout_seconds: float = 2,
    ) -> None:
        # Resent: each command leaves the same behind when it runs twice, and a form that is taken for used is refused.
        self._redis = redis_client(redis_url, timeout_seconds=timeout_seconds, resend=True)
        self._prefix = prefix
        self._clock = clock
        self._anonymous = AnonymousCookies(self._redis, prefix, clock)
        self._kept = KeptForms(self._redis, prefix)

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock()

    def new(self) -> Session:
        """A session of nobody's, to be kept with `save`."""
        return Session(secrets.token_urlsafe(_SECRET_BYTES), new_csrf(), self._clock(), fresh=True)

    def read(self, secret: str | None) -> Session | None:
        """The session of a cookie; None if it has ended, or never was."""
        if not secret or not secret.isascii():
            return None
        if secret.startswith(f"{COOKIE_PREFIX}."):
            return self._read_anonymous(secret)
        if len(secret) > 200:
            return None
        name = self._name(secret)
        try:
            sealed = self._redis.getex(name, ex=IDLE_SECONDS)
        except RedisError as error:
            raise SessionsUnavailable from error
        found = _unsealed(sealed, secret, name, _SESSION)
        if found is None or self._clock() - found["began_at"] >= MAX_AGE_SECONDS:
            return None
        return _from_json(secret, found)

    def cookie_of(self, session: Session) -> str:
        """The cookie that is the whole session of a browser in which nobody has signed in; nothing is kept here."""
        assert session.user is None  # noqa: S101  what the issuer gave never leaves for a browser
        try:
            return self._anonymous.seal(_for_cookie(session))
        except RedisError as error:
            raise SessionsUnavailable from error

    def save(self, session: Session) -> None:
        """Keep it, as it is now. One that has ended meanwhile stays ended: somebody signed out in another window."""
        name = self._name(session.secret)
        content = asdict(session)
        del content["secret"], content["fresh"]
        sealed = seal(json.dumps(content).encode(), session.secret, name, _SESSION)
        try:
            self._redis.set(name, sealed, ex=IDLE_SECONDS, xx=not session.fresh)
            if session.fresh and session.user is not None:
                recalled = self._recalled_name(session.secret)
                content = {"subject": session.user.subject, "account": session.account}
                sealed = seal(json.dumps(content).encode(), session.secret, recalled, _RECALLED)
                self._redis.set(recalled, sealed, ex=ENDED_SESSION_SECONDS)
        except RedisError as error:
            raise SessionsUnavailable from error

    def end(self, session: Session) -> None:
        """Forget it."""
        try:
            self._redis.delete(self._name(session.secret), self._recalled_name(session.secret))
        except RedisError as error:
            raise SessionsUnavailable from error

    def rotate(self, session: Session) -> Session:
        """The same under another secret, the old one ended: who knew it before somebody signed in knows nothing."""
        fresh = self.new()
        self.end(session)
        return session.with_(secret=fresh.secret, csrf=fresh.csrf, began_at=fresh.began_at, fresh=True)

    def recall(self, secret: str | None) -> EndedSession | None:
        """Who was signed in with this cookie, after its session has ended by itself; None for a made-up cookie."""
        if not secret or not secret.isascii() or len(secret) > 200 or secret.startswith(f"{COOKIE_PREFIX}."):
            return None
        name = self._recalled_name(secret)
        try:
            found = _unsealed(self._redis.get(name), secret, name, _RECALLED)
        except RedisError as error:
            raise SessionsUnavailable from error
        return None if found is None else ended_session_of(found["subject"], found["account"])

    def keep_form(self, ended_session: EndedSession, form: KeptForm) -> int | None:
        """Keep what was sent for `before`, until they have signed in. The place that it has; None if it is too long."""
        try:
            return self._kept.put(ended_session, form)
        except RedisError as error:
            raise SessionsUnavailable from error

    def kept_form(self, session: Session, place: int) -> KeptForm | None:
        """The form that was kept for the person of this session, in this browser."""
        if session.ended_session is None or session.user is None:
            return None
        try:
            return self._kept.find(session.ended_session, session.user.subject, place)
        except RedisError as error:
            raise SessionsUnavailable from error

    @contextmanager
    def locked(self, session: Session) -> Iterator[Session | None]:
        """One request of this session at a time; it is given the session as it is then, None if it has ended."""
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
            with suppress(RedisError):  # then it ends by itself
                lock.release()

    def use_form(self, form_id: str) -> bool:
        """Whether this form is sent for the first time: one that shows a secret must not show another when reloaded."""
        name = f"{self._prefix}form:{hashlib.sha256(form_id.encode()).hexdigest()}"
        try:
            return bool(self._redis.set(name, b"", nx=True, ex=FORM_SECONDS))
        except RedisError as error:
            raise SessionsUnavailable from error

    def start_cooldown(self, what: str, seconds: int) -> bool:
        """Whether nobody took a turn at `what`, at any process of the Hub, within so many seconds."""
        try:
            return bool(self._redis.set(f"{self._prefix}turn:{what}", b"", nx=True, ex=seconds))
        except RedisError as error:
            raise SessionsUnavailable from error

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

    def _recalled_name(self, secret: str) -> str:
        return f"{self._prefix}recalled:{hashlib.sha256(secret.encode()).hexdigest()}"


def ended_session_of(subject: str, account: str | None) -> EndedSession:
    """Whose session has ended, with a new key for the forms that are kept for them."""
    return EndedSession(subject, account, secrets.token_urlsafe(_SECRET_BYTES))


def _unsealed(sealed: object, secret: str, name: str, purpose: bytes) -> dict[str, Any] | None:
    content = unseal(sealed, secret, name, purpose) if isinstance(sealed, bytes) else None
    if content is None:
        return None
    found: dict[str, Any] = json.loads(content)
    return found


def _for_cookie(session: Session) -> dict[str, Any]:
    """What goes into the cookie. If it is too much, the oldest sign-ins lead to the overview, or are given up."""
    ended_session = None if session.ended_session is None else asdict(session.ended_session)
    sign_ins = [asdict(one) for one in session.sign_ins]
    while True:
        content = {"csrf": session.csrf, "sign_ins": sign_ins, "before": ended_session}
        if sealed_length(content) <= MAX_SEALED_LENGTH or len(sign_ins) <= 1:
            return content
        detour = next((one for one in sign_ins[:-1] if len(one["next_path"]) > 1), None)
        if detour is None:
            del sign_ins[0]
        else:
            detour["next_path"] = "/"


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
    except (KeyError, TypeError):  # of another release: sign in anew
        return None
