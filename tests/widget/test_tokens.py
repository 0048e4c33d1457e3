"""User tokens and refresh families on a real Redis: once, for so long, whoever asks at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from kataven.widget import families, opaque_tokens, user_tokens
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
from kataven.widget.families import Families
from kataven.widget.store import WidgetStore
from kataven.widget.user_tokens import UserTokens, UserTokenSubject
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession
from tests.support.clock import Clock

THREADS = 16
UMA = UserTokenSubject("00000000-0000-4000-8000-000000000001", "u-17", "\u00dcma", "uma@acme.example")
VISIT = VisitorSession(
    "acme", "k", 3, "a", "https://acme.com", Visitor(VisitorKind.USER, "u-17", "\u00dcma", None), "m"
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(redis_url: str, clock: Clock) -> Iterator[WidgetStore]:
    made = WidgetStore(redis_url, clock=clock)
    yield made
    made.close()


@pytest.fixture
def users(store: WidgetStore) -> UserTokens:
    return UserTokens(store)


@pytest.fixture
def visits(store: WidgetStore) -> Families:
    return Families(store)


def test_a_user_token_gives_what_was_vouched_for_once(users: UserTokens) -> None:
    token = users.issue("acme", UMA)
    assert users.redeem("acme", token) == UMA
    with pytest.raises(UserTokenUsed):
        users.redeem("acme", token)


def test_a_user_token_ends_after_five_minutes_and_says_so_for_an_hour(users: UserTokens, clock: Clock) -> None:
    assert user_tokens.TTL_SECONDS == 300
    in_time, late = users.issue("acme", UMA), users.issue("acme", UMA)
    clock.advance(299.9)
    assert users.redeem("acme", in_time) == UMA
    clock.advance(0.1)
    with pytest.raises(UserTokenExpired):
        users.redeem("acme", late)
    with pytest.raises(UserTokenUsed):
        users.redeem("acme", in_time)


def test_another_accounts_token_is_left_alone(users: UserTokens) -> None:
    token = users.issue("acme", UMA)
    with pytest.raises(UserTokenOfAnotherAccount):
        users.redeem("globex", token)
    assert users.redeem("acme", token) == UMA


def test_everything_is_forgotten_in_time(users: UserTokens, visits: Families, redis_url: str) -> None:
    users.issue("acme", UMA)
    visits.rotate(visits.begin(VISIT), VISIT)
    with redis.Redis.from_url(redis_url) as client:
        lives = {name.split(b":")[2]: client.ttl(name) for name in client.scan_iter("kataven:widget:*")}
    assert 0 < lives[b"user-token"] <= 3_600
    assert 0 < lives[b"visit"] <= 2 * 3_600


def test_who_the_user_is_is_not_kept_once_the_token_is_used(users: UserTokens, redis_url: str) -> None:
    token = users.issue("acme", UMA)
    with redis.Redis.from_url(redis_url) as client:
        assert _keeps(client, b"uma@acme.example")
        users.redeem("acme", token)
        assert not _keeps(client, b"uma@acme.example")


def _keeps(client: redis.Redis, text: bytes) -> bool:
    return any(text in value for name in client.scan_iter("kataven:widget:*") for value in client.hvals(name))


@pytest.mark.parametrize("token", ["", "ut_", "ut_x", "rt_x", "ut_" + "a" * 49, "ut_" + "\u0661" * 49, "x" * 9000])
def test_what_is_no_user_token_is_unknown_without_asking(token: str) -> None:
    unreachable = WidgetStore("unix:///there-is-no-redis-here.sock")
    with pytest.raises(UserTokenUnknown):
        UserTokens(unreachable).redeem("acme", token)
    with pytest.raises(RefreshTokenUnknown):
        Families(unreachable).look(token)
    with pytest.raises(RefreshTokenUnknown):
        Families(unreachable).rotate(token, VISIT)


def test_of_many_who_show_a_user_token_at_once_one_gets_in(redis_url: str) -> None:
    store = WidgetStore(redis_url)
    token = UserTokens(store).issue("acme", UMA)
    outcomes = _at_once(lambda: UserTokens(store).redeem("acme", token) and "in")
    assert outcomes == Counter({"in": 1, "user_token_used": THREADS - 1})
    store.close()


def test_of_many_who_rotate_a_refresh_token_at_once_one_succeeds_and_the_family_ends(redis_url: str) -> None:
    store = WidgetStore(redis_url)
    visits = Families(store)
    token = visits.begin(VISIT)
    given: list[str] = []
    outcomes = _at_once(lambda: given.append(visits.rotate(token, VISIT)) or "in")  # type: ignore[func-returns-value]
    assert outcomes == Counter({"in": 1, "refresh_token_reused": THREADS - 1})
    with pytest.raises(RefreshTokenReused):
        visits.look(given[0])
    store.close()


def _at_once(attempt: Callable[[], object]) -> Counter[str]:
    def tried(_: int) -> str:
        try:
            return str(attempt() and "in")
        except WidgetRefused as refused:
            return refused.code

    with ThreadPoolExecutor(THREADS) as threads:
        return Counter(threads.map(tried, range(THREADS)))


def test_a_family_keeps_its_visit_from_token_to_token(visits: Families) -> None:
    token = visits.begin(VISIT)
    for _ in range(20):
        assert visits.look(token) == VISIT
        token = visits.rotate(token, VISIT)
    guest = replace(VISIT, visitor=Visitor(VisitorKind.GUEST, "g"), minted_by=None)
    assert visits.look(visits.begin(guest)) == guest


def test_looking_uses_nothing_up(visits: Families) -> None:
    token = visits.begin(VISIT)
    assert [visits.look(token) for _ in range(3)] == [VISIT] * 3
    visits.rotate(token, VISIT)


def test_a_refresh_token_waits_two_hours_and_a_visit_lasts_a_day(visits: Families, clock: Clock) -> None:
    assert (families.IDLE_SECONDS, families.VISIT_SECONDS) == (7_200, 86_400)
    idle = visits.begin(VISIT)
    clock.advance(7_200)
    with pytest.raises(RefreshTokenUnknown):
        visits.look(idle)
    with pytest.raises(RefreshTokenUnknown):
        visits.rotate(idle, VISIT)
    token = visits.begin(VISIT)
    for _ in range(23):
        clock.advance(3_600)
        token = visits.rotate(token, VISIT)
    clock.advance(3_599)
    assert visits.look(token) == VISIT
    clock.advance(1)
    with pytest.raises(RefreshTokenUnknown):
        visits.look(token)


def test_a_damaged_refresh_token_does_not_end_the_family(visits: Families) -> None:
    token = visits.begin(VISIT)
    damaged = token[:50] + ("a" if token[50] != "a" else "b") + token[51:]
    with pytest.raises(RefreshTokenUnknown):
        visits.look(damaged)
    assert visits.look(token) == VISIT


def test_an_ended_family_stays_ended_and_keeps_nobody(visits: Families, redis_url: str) -> None:
    first = visits.begin(VISIT)
    second = visits.rotate(first, VISIT)
    for token in (first, second, first):
        with pytest.raises(RefreshTokenReused):
            visits.look(token)
    with redis.Redis.from_url(redis_url) as client:
        assert not _keeps(client, b"u-17")


def test_what_another_release_wrote_lets_nobody_in(visits: Families, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for record in ("{", "[]", "{}", '{"account": "acme", "surprise": 1, "visitor": {"kind": "guest", "id": "x"}}'):
            token = visits.begin(VISIT)
            [name] = client.scan_iter("kataven:widget:visit:*")
            client.hset(name, "record", record)
            with pytest.raises(RefreshTokenUnknown):
                visits.look(token)
            client.delete(name)


def test_without_redis_nobody_can_tell() -> None:
    store = WidgetStore("unix:///there-is-no-redis-here.sock")
    for attempt in (
        lambda: UserTokens(store).issue("acme", UMA),
        lambda: UserTokens(store).redeem("acme", opaque_tokens.new_user_token()),
        lambda: Families(store).begin(VISIT),
        lambda: Families(store).look(opaque_tokens.new_refresh_token(opaque_tokens.new_name())),
        lambda: Families(store).rotate(opaque_tokens.new_refresh_token(opaque_tokens.new_name()), VISIT),
    ):
        with pytest.raises(StoreUnavailable):
            attempt()


@settings(deadline=None)
@given(at=st.integers(0, 200), other=st.sampled_from("abcXYZ019_"))
def test_any_other_character_anywhere_is_noticed(at: int, other: str) -> None:
    for token, is_good in (
        (opaque_tokens.new_user_token(), opaque_tokens.is_user_token),
        (
            opaque_tokens.new_refresh_token(opaque_tokens.new_name()),
            lambda text: opaque_tokens.session_of(text) is not None,
        ),
    ):
        place = at % len(token)
        assert is_good(token)
        assert is_good(token[:place] + other + token[place + 1 :]) is (token[place] == other)
        assert not is_good(token[:place] + token[place + 1 :])
