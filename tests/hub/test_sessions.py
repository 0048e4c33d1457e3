"""Sessions: encryption in Redis, rotation at sign-in, and expiry."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from kataven.hub.anonymous import ANONYMOUS_SECONDS, COOKIE_PREFIX
from kataven.hub.sessions import (
    IDLE_SECONDS,
    MAX_AGE_SECONDS,
    Session,
    Sessions,
    SessionsUnavailable,
    SignedInUser,
    SignIn,
)

ALICE = SignedInUser("alice", "Alice", "an access token", "a nonce", "a refresh token")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(redis_url: str, clock: Clock) -> Iterator[Sessions]:
    sessions = Sessions(redis_url, clock=clock)
    yield sessions
    sessions.close()


def kept(sessions: Sessions) -> Session:
    session = sessions.new().with_(user=ALICE, account="acme")
    sessions.save(session)
    return session


def everything_in(redis_url: str) -> bytes:
    with redis.Redis.from_url(redis_url) as client:
        return b"\n".join(name + b" " + (client.get(name) or b"") for name in client.scan_iter())


def test_saved_session_is_read_back_unchanged(sessions: Sessions) -> None:
    session = kept(sessions)
    assert sessions.read(session.secret) == session


def test_redis_contains_no_usable_secret(sessions: Sessions, redis_url: str) -> None:
    session = kept(sessions)
    seen = everything_in(redis_url)
    for secret in (session.secret, session.csrf, "an access token", "a nonce", "a refresh token", "alice", "acme"):
        assert secret.encode() not in seen


def test_tampered_redis_entries_are_rejected(sessions: Sessions, redis_url: str) -> None:
    """Neither a changed entry nor an entry under another name is accepted."""
    alice, other = kept(sessions), sessions.new()
    sessions.save(other)
    with redis.Redis.from_url(redis_url) as client:
        by_size = sorted(client.keys("hub:session:*"), key=lambda name: len(client.get(name) or b""))
        small, large = by_size[0], by_size[-1]
        sealed = client.get(large) or b""
        client.set(small, sealed)
        client.set(large, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert sessions.read(alice.secret) is sessions.read(other.secret) is None


@pytest.mark.parametrize("cookie", [None, "", "unknown", "x" * 10_000, "ünknown"])
def test_unknown_cookie_has_no_session(sessions: Sessions, cookie: str | None) -> None:
    assert sessions.read(cookie) is None


def test_session_expires_after_24_hours_even_if_in_use(sessions: Sessions, clock: Clock) -> None:
    session = kept(sessions)
    clock.now += MAX_AGE_SECONDS - 1
    assert sessions.read(session.secret) is not None
    clock.now += 1
    assert sessions.read(session.secret) is None


def test_each_read_renews_the_idle_timeout(sessions: Sessions, redis_url: str) -> None:
    session = kept(sessions)
    with redis.Redis.from_url(redis_url) as client:
        (name,) = client.keys("hub:session:*")
        client.expire(name, 5)
        sessions.read(session.secret)
        assert client.ttl(name) > IDLE_SECONDS - 60


def test_session_secret_is_rotated_at_sign_in(sessions: Sessions) -> None:
    before = sessions.new()
    sessions.save(before)
    after = sessions.rotate(before).with_(user=ALICE)
    sessions.save(after)
    assert sessions.read(before.secret) is None
    assert after.csrf != before.csrf
    assert sessions.read(after.secret) == after


def test_ended_session_cannot_be_read(sessions: Sessions) -> None:
    session = kept(sessions)
    sessions.end(session)
    assert sessions.read(session.secret) is None


def test_form_id_can_be_used_once(sessions: Sessions) -> None:
    assert sessions.use_form("a form")
    assert not sessions.use_form("a form")
    assert sessions.use_form("another form")


def test_repr_of_a_session_contains_no_secret() -> None:
    session = Session("a cookie", "a form's secret", 0.0, ALICE)
    for secret in ("a cookie", "a form's secret", "an access token", "a nonce", "a refresh token"):
        assert secret not in repr(session)


def test_every_method_raises_without_redis() -> None:
    sessions = Sessions("redis://127.0.0.1:1/0", timeout_seconds=0.2)
    for attempt in (
        lambda: sessions.read("a cookie"),
        lambda: sessions.save(sessions.new()),
        lambda: sessions.end(sessions.new()),
        lambda: sessions.use_form("a form"),
        lambda: sessions.cookie_of(sessions.new()),
        lambda: sessions.read(f"{COOKIE_PREFIX}.{int(time.time() // 86_400)}.AAAA"),
    ):
        with pytest.raises(SessionsUnavailable):
            attempt()


def test_saving_does_not_restore_an_ended_session(sessions: Sessions) -> None:
    """A request that started before the sign-out may save its session afterwards."""
    secret = kept(sessions).secret
    still_there = sessions.read(secret)
    assert still_there is not None
    sessions.end(still_there)
    sessions.save(still_there.with_(notice="Saved."))
    assert sessions.read(secret) is None


def sign_in(state: str = "a state") -> SignIn:
    return SignIn(state, "a nonce", "a verifier", "acme", "/settings")


def test_anonymous_session_is_stored_in_the_cookie_only(sessions: Sessions, redis_url: str) -> None:
    session = sessions.new().with_(sign_ins=(sign_in(),))
    cookie = sessions.cookie_of(session)
    before = everything_in(redis_url)
    assert before.startswith(b"hub:anonymous-key:")
    for _ in range(50):
        sessions.cookie_of(sessions.new())
    assert everything_in(redis_url) == before
    found = sessions.read(cookie)
    assert found is not None
    assert (found.csrf, found.sign_ins, found.user, found.account) == (session.csrf, session.sign_ins, None, None)
    for secret in (session.csrf, "a state", "a verifier", "acme"):
        assert secret not in cookie


def test_anonymous_cookie_expires_after_15_minutes(sessions: Sessions, clock: Clock) -> None:
    cookie = sessions.cookie_of(sessions.new())
    clock.now += ANONYMOUS_SECONDS - 1
    assert sessions.read(cookie) is not None
    clock.now += 1
    assert sessions.read(cookie) is None


def test_anonymous_cookie_is_valid_across_midnight(sessions: Sessions, clock: Clock) -> None:
    clock.now = 86_400 * 3 - 1
    cookie = sessions.cookie_of(sessions.new())
    clock.now += 2
    assert sessions.read(cookie) is not None
    assert sessions.cookie_of(sessions.new()).split(".")[1] != cookie.split(".")[1]


def test_anonymous_cookie_key_expires(sessions: Sessions, redis_url: str) -> None:
    sessions.cookie_of(sessions.new())
    with redis.Redis.from_url(redis_url) as client:
        (name,) = client.keys()
        assert 0 < client.ttl(name) <= 2 * 86_400


def test_forged_anonymous_cookie_is_rejected(sessions: Sessions, clock: Clock, redis_url: str) -> None:
    good = sessions.cookie_of(sessions.new().with_(sign_ins=(sign_in(),)))
    mark, day, sealed = good.split(".")
    # Not at the end: the last character before the padding has bits that no byte contains.
    flipped = sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:]
    made_up = [
        f"{mark}.{day}.{flipped}",
        f"{mark}.{int(day) + 1}.{sealed}",
        f"{mark}.{int(day) - 1}.{sealed}",
        f"{mark}.{day}.",
        f"{mark}.{day}.{'A' * 3_000}",
        f"{mark}.{day}.{'A' * 9_000}",
        f"{mark}.x.{sealed}",
        f"{mark}.",
        f"{mark}.{day}.ß",
    ]
    assert [sessions.read(cookie) for cookie in made_up] == [None] * len(made_up)
    assert sessions.read(good) is not None
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert sessions.read(good) is None
    assert everything_in(redis_url) == b""


def test_processes_share_the_anonymous_cookie_key(sessions: Sessions, redis_url: str, clock: Clock) -> None:
    other = Sessions(redis_url, clock=clock)
    assert other.read(sessions.cookie_of(sessions.new())) is not None
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert sessions.read(other.cookie_of(other.new())) is not None
    other.close()


def test_tokens_are_never_stored_in_a_cookie(sessions: Sessions) -> None:
    with pytest.raises(AssertionError):
        sessions.cookie_of(sessions.new().with_(user=ALICE))
