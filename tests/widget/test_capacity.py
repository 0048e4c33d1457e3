"""Limits on stored visitor sessions: per widget key, per account and in total, on a real Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from kataven.widget.capacity import Capacity
from kataven.widget.errors import RefreshTokenReused, TooManySessions
from kataven.widget.families import IDLE_SECONDS, Families
from kataven.widget.store import WidgetStore
from kataven.widget.user_tokens import UserTokens, UserTokenSubject
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession
from tests.support.app_harness import AppHarness, Caller
from tests.support.clock import Clock
from tests.widget.conftest import Site, refusal

STEP_SECONDS = 300
UMA = UserTokenSubject("00000000-0000-4000-8000-000000000001", "u-17", "Uma", "uma@acme.example")
SESSION = VisitorSession("acme", "shop", 3, "agent", "https://acme.com", Visitor(VisitorKind.GUEST, "guest"))
CAPACITY = Capacity(total=8, per_account=6)  # and 3 per widget key


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(redis_url: str, clock: Clock) -> Iterator[WidgetStore]:
    store = WidgetStore(redis_url, clock=clock)
    yield store
    store.close()


@pytest.fixture
def families(store: WidgetStore) -> Families:
    return Families(store, CAPACITY)


def session_of(account: str, widget_key: str) -> VisitorSession:
    return replace(SESSION, account=account, widget_key_id=widget_key)


def create(families: Families, session: VisitorSession, count: int) -> list[str]:
    return [families.create(session) for _ in range(count)]


def refused_by(families: Families, session: VisitorSession) -> TooManySessions:
    with pytest.raises(TooManySessions) as refused:
        families.create(session)
    return refused.value


def test_widget_key_can_have_half_of_the_sessions_of_its_account(families: Families) -> None:
    create(families, SESSION, 3)
    assert refused_by(families, SESSION).limit == "widget-key-visits"
    create(families, session_of("acme", "blog"), 3)
    assert refused_by(families, session_of("acme", "new")).limit == "account-visits"
    create(families, session_of("globex", "shop"), 2)
    assert refused_by(families, session_of("initech", "shop")).limit == "visits"


def test_rejected_session_stores_nothing(families: Families, redis_url: str) -> None:
    create(families, SESSION, 3)
    with redis.Redis.from_url(redis_url) as client:
        before = client.dbsize()
        for _ in range(50):
            refused_by(families, SESSION)
        assert client.dbsize() == before


def test_capacity_is_available_again_when_sessions_have_expired(families: Families, clock: Clock) -> None:
    create(families, SESSION, 3)
    wait = refused_by(families, SESSION).retry_after_seconds
    assert IDLE_SECONDS < wait <= IDLE_SECONDS + STEP_SECONDS
    clock.advance(wait - 1)
    refused_by(families, SESSION)
    clock.advance(1)
    create(families, SESSION, 3)


def test_extended_session_is_counted_until_it_expires(families: Families, clock: Clock) -> None:
    extended, *_ = create(families, SESSION, 3)
    clock.advance(IDLE_SECONDS - 60)
    extended = families.rotate(extended, SESSION)
    clock.advance(2 * STEP_SECONDS)  # the other two have expired
    create(families, SESSION, 2)
    refused_by(families, SESSION)
    families.rotate(extended, SESSION)
    refused_by(families, SESSION)


def test_existing_session_continues_at_the_limit(families: Families) -> None:
    token, *_ = create(families, SESSION, 3)
    for _ in range(10):
        token = families.rotate(token, SESSION)
    refused_by(families, SESSION)


def test_ended_session_counts_until_its_record_expires(families: Families, clock: Clock) -> None:
    token, *_ = create(families, SESSION, 3)
    families.rotate(token, SESSION)
    with pytest.raises(RefreshTokenReused):
        families.rotate(token, SESSION)
    wait = refused_by(families, SESSION).retry_after_seconds
    clock.advance(wait)
    create(families, SESSION, 3)


def test_uncounted_sessions_of_an_older_release_remain_uncounted(families: Families, redis_url: str) -> None:
    create(families, SESSION, 1)
    old, *_ = create(families, SESSION, 1)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(*client.scan_iter("kataven:widget:visits*"))
    families.rotate(old, SESSION)
    create(families, SESSION, 3)
    refused_by(families, SESSION)


def test_concurrent_sessions_do_not_exceed_the_limit(redis_url: str) -> None:
    store = WidgetStore(redis_url)
    families = Families(store, Capacity(total=100, per_account=20))

    def attempt(_: int) -> bool:
        try:
            return bool(families.create(SESSION))
        except TooManySessions:
            return False

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(attempt, range(64))) == 10
    store.close()


def test_user_token_remains_valid_at_the_session_limit(families: Families, store: WidgetStore, clock: Clock) -> None:
    users = UserTokens(store)
    session_counters = CAPACITY.session_counters(store, "acme", "shop")
    create(families, SESSION, 3)
    token = users.issue("acme", UMA)
    with pytest.raises(TooManySessions):
        users.redeem("acme", token, session_counters)
    assert users.redeem("acme", token, CAPACITY.session_counters(store, "acme", "blog")) == UMA


def test_counters_are_small_and_expire(store: WidgetStore, redis_url: str, clock: Clock) -> None:
    families = Families(store, Capacity(total=10_000, per_account=10_000))
    for _ in range(100):
        create(families, SESSION, 2)
        clock.advance(180)
    with redis.Redis.from_url(redis_url) as client:
        counters = list(client.scan_iter("kataven:widget:visits*"))
        assert len(counters) == 3
        assert max(map(client.hlen, counters)) <= IDLE_SECONDS / STEP_SECONDS + 2
        assert all(0 < client.ttl(name) <= IDLE_SECONDS + STEP_SECONDS for name in client.scan_iter())


def test_session_limit_returns_429_with_retry_after(
    harness: AppHarness, site: Site, create_user_token: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        client.delete("none", *client.scan_iter("kataven:widget:visits*"))  # sessions of other tests
    monkeypatch.setitem(harness.services.widget.__dict__, "capacity", Capacity(total=1_000_000, per_account=2))
    user_token = create_user_token()
    first = site.guest()
    assert first.status_code == 200
    before = harness.caller().get("/metrics").text
    for response in (site.guest(), site.exchange(user_token)):
        assert refusal(response) == (429, "too_many_visits")
        assert 0 < int(response.headers["Retry-After"]) <= IDLE_SECONDS + STEP_SECONDS
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert site.refresh(first.get_json()["refresh_token"]).status_code == 200
    monkeypatch.setitem(harness.services.widget.__dict__, "capacity", Capacity())
    assert site.exchange(user_token).status_code == 200
    sample = 'kataven_limited_total{limit="widget-key-visits"} 2.0'
    assert sample not in before
    assert sample in harness.caller().get("/metrics").text


def test_lone_surrogates_are_rejected(harness: AppHarness, acme_key: Caller) -> None:
    """Redis stores UTF-8 only."""
    response = harness.caller().call(
        "POST",
        "/v1/widget/auth/user-token",
        headers={"Authorization": acme_key.headers["Authorization"]},
        data=b'{"external_user_id": "\\ud800"}',
        content_type="application/json",
    )
    assert response.status_code == 400
