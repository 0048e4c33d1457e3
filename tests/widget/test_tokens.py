"""User tokens and refresh token families on a real Redis: single use, expiry and concurrency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from kataven.widget import opaque_tokens, user_tokens
from kataven.widget.errors import (
    RefreshTokenReused,
    RefreshTokenUnknown,
    StoreUnavailable,
    UserTokenExpired,
    UserTokenOfAnotherAccount,
    UserTokenUnknown,
    UserTokenUsed,
    WidgetRefused,
)
from kataven.widget.families import IDLE_SECONDS, SESSION_SECONDS, Families
from kataven.widget.store import WidgetStore
from kataven.widget.user_tokens import UserTokens, UserTokenSubject
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession
from tests.support.clock import Clock

THREADS = 16
UMA = UserTokenSubject("00000000-0000-4000-8000-000000000001", "u-17", "\u00dcma", "uma@acme.example")
SESSION = VisitorSession(
    "acme", "k", 3, "a", "https://acme.com", Visitor(VisitorKind.USER, "u-17", "\u00dcma", None), "m"
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(redis_url: str, clock: Clock) -> Iterator[WidgetStore]:
    store = WidgetStore(redis_url, clock=clock)
    yield store
    store.close()


@pytest.fixture
def users(store: WidgetStore) -> UserTokens:
    return UserTokens(store)


@pytest.fixture
def families(store: WidgetStore) -> Families:
    return Families(store)


def test_user_token_is_redeemed_once(users: UserTokens) -> None:
    token = users.issue("acme", UMA)
    assert users.redeem("acme", token) == UMA
    with pytest.raises(UserTokenUsed):
        users.redeem("acme", token)


def test_user_token_expires_after_five_minutes_and_is_reported_as_expired(users: UserTokens, clock: Clock) -> None:
    assert user_tokens.TTL_SECONDS == 300
    in_time, late = users.issue("acme", UMA), users.issue("acme", UMA)
    clock.advance(299.9)
    assert users.redeem("acme", in_time) == UMA
    clock.advance(0.1)
    with pytest.raises(UserTokenExpired):
        users.redeem("acme", late)
    with pytest.raises(UserTokenUsed):
        users.redeem("acme", in_time)


def test_token_of_another_account_is_rejected_and_remains_valid(users: UserTokens) -> None:
    token = users.issue("acme", UMA)
    with pytest.raises(UserTokenOfAnotherAccount):
        users.redeem("globex", token)
    assert users.redeem("acme", token) == UMA


def test_all_keys_expire(users: UserTokens, families: Families, redis_url: str) -> None:
    users.issue("acme", UMA)
    families.rotate(families.create(SESSION), SESSION)
    with redis.Redis.from_url(redis_url) as client:
        lives = {name.split(b":")[2]: client.ttl(name) for name in client.scan_iter("kataven:widget:*")}
    assert 0 < lives[b"user-token"] <= 3_600
    assert 0 < lives[b"visit"] <= 2 * 3_600


def test_user_data_is_deleted_when_the_token_is_used(users: UserTokens, redis_url: str) -> None:
    token = users.issue("acme", UMA)
    with redis.Redis.from_url(redis_url) as client:
        assert _is_stored(client, b"uma@acme.example")
        users.redeem("acme", token)
        assert not _is_stored(client, b"uma@acme.example")


def _is_stored(client: redis.Redis, text: bytes) -> bool:
    return any(text in value for name in client.scan_iter("kataven:widget:*") for value in client.hvals(name))


@pytest.mark.parametrize("token", ["", "ut_", "ut_x", "rt_x", "ut_" + "a" * 49, "ut_" + "\u0661" * 49, "x" * 9000])
def test_malformed_token_is_rejected_without_io(token: str) -> None:
    unreachable = WidgetStore("unix:///there-is-no-redis-here.sock")
    with pytest.raises(UserTokenUnknown):
        UserTokens(unreachable).redeem("acme", token)
    with pytest.raises(RefreshTokenUnknown):
        Families(unreachable).read(token)
    with pytest.raises(RefreshTokenUnknown):
        Families(unreachable).rotate(token, SESSION)


def test_concurrent_redemption_succeeds_once(redis_url: str) -> None:
    store = WidgetStore(redis_url)
    token = UserTokens(store).issue("acme", UMA)
    outcomes = _concurrently(lambda: UserTokens(store).redeem("acme", token) and "in")
    assert outcomes == Counter({"in": 1, "user_token_used": THREADS - 1})
    store.close()


def test_concurrent_rotation_succeeds_once_and_ends_the_family(redis_url: str) -> None:
    store = WidgetStore(redis_url)
    families = Families(store)
    token = families.create(SESSION)
    received: list[str] = []
    outcomes = _concurrently(lambda: received.append(families.rotate(token, SESSION)) or "in")  # type: ignore[func-returns-value]
    assert outcomes == Counter({"in": 1, "refresh_token_reused": THREADS - 1})
    with pytest.raises(RefreshTokenReused):
        families.read(received[0])
    store.close()


def _concurrently(attempt: Callable[[], object]) -> Counter[str]:
    def attempt_once(_: int) -> str:
        try:
            return str(attempt() and "in")
        except WidgetRefused as refused:
            return refused.code

    with ThreadPoolExecutor(THREADS) as threads:
        return Counter(threads.map(attempt_once, range(THREADS)))


def test_family_returns_the_same_session_for_every_token(families: Families) -> None:
    token = families.create(SESSION)
    for _ in range(20):
        assert families.read(token) == SESSION
        token = families.rotate(token, SESSION)
    guest = replace(SESSION, visitor=Visitor(VisitorKind.GUEST, "g"), minted_by=None)
    assert families.read(families.create(guest)) == guest


def test_read_does_not_use_the_token(families: Families) -> None:
    token = families.create(SESSION)
    assert [families.read(token) for _ in range(3)] == [SESSION] * 3
    families.rotate(token, SESSION)


def test_refresh_token_expires_after_two_hours_and_a_session_after_a_day(families: Families, clock: Clock) -> None:
    assert (IDLE_SECONDS, SESSION_SECONDS) == (7_200, 86_400)
    idle = families.create(SESSION)
    clock.advance(7_200)
    with pytest.raises(RefreshTokenUnknown):
        families.read(idle)
    with pytest.raises(RefreshTokenUnknown):
        families.rotate(idle, SESSION)
    token = families.create(SESSION)
    for _ in range(23):
        clock.advance(3_600)
        token = families.rotate(token, SESSION)
    clock.advance(3_599)
    assert families.read(token) == SESSION
    clock.advance(1)
    with pytest.raises(RefreshTokenUnknown):
        families.read(token)


def test_damaged_refresh_token_does_not_end_the_family(families: Families) -> None:
    token = families.create(SESSION)
    damaged = token[:50] + ("a" if token[50] != "a" else "b") + token[51:]
    with pytest.raises(RefreshTokenUnknown):
        families.read(damaged)
    assert families.read(token) == SESSION


def test_ended_family_remains_ended_and_stores_no_user_data(families: Families, redis_url: str) -> None:
    first = families.create(SESSION)
    second = families.rotate(first, SESSION)
    for token in (first, second, first):
        with pytest.raises(RefreshTokenReused):
            families.read(token)
    with redis.Redis.from_url(redis_url) as client:
        assert not _is_stored(client, b"u-17")


def test_unreadable_record_is_rejected(families: Families, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for record in ("{", "[]", "{}", '{"account": "acme", "surprise": 1, "visitor": {"kind": "guest", "id": "x"}}'):
            token = families.create(SESSION)
            [name] = client.scan_iter("kataven:widget:visit:*")
            client.hset(name, "record", record)
            with pytest.raises(RefreshTokenUnknown):
                families.read(token)
            client.delete(name)


def test_unavailable_redis_raises_store_unavailable() -> None:
    store = WidgetStore("unix:///there-is-no-redis-here.sock")
    for attempt in (
        lambda: UserTokens(store).issue("acme", UMA),
        lambda: UserTokens(store).redeem("acme", opaque_tokens.new_user_token()),
        lambda: Families(store).create(SESSION),
        lambda: Families(store).read(opaque_tokens.new_refresh_token(opaque_tokens.new_secret())),
        lambda: Families(store).rotate(opaque_tokens.new_refresh_token(opaque_tokens.new_secret()), SESSION),
    ):
        with pytest.raises(StoreUnavailable):
            attempt()


@settings(deadline=None)
@given(at=st.integers(0, 200), other=st.sampled_from("abcXYZ019_"))
def test_checksum_detects_any_changed_character(at: int, other: str) -> None:
    for token, is_good in (
        (opaque_tokens.new_user_token(), opaque_tokens.is_user_token),
        (
            opaque_tokens.new_refresh_token(opaque_tokens.new_secret()),
            lambda text: opaque_tokens.session_name(text) is not None,
        ),
    ):
        place = at % len(token)
        assert is_good(token)
        assert is_good(token[:place] + other + token[place + 1 :]) is (token[place] == other)
        assert not is_good(token[:place] + token[place + 1 :])
