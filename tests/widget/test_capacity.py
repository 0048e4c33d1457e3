"""How many visits may be kept at a time: by widget key, by account and in all, on a real Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from kataven.widget.capacity import Capacity
from kataven.widget.errors import RefreshTokenReused, TooManyVisits
from kataven.widget.families import IDLE_SECONDS, Families
from kataven.widget.store import WidgetStore
from kataven.widget.user_tokens import UserTokens, UserTokenSubject
from kataven.widget.visitor_tokens import Visitor, VisitorKind, VisitorSession
from tests.support.app_harness import AppHarness, Caller
from tests.support.clock import Clock
from tests.widget.conftest import Site, refusal

STEP_SECONDS = 300
UMA = UserTokenSubject("00000000-0000-4000-8000-000000000001", "u-17", "Uma", "uma@acme.example")
VISIT = VisitorSession("acme", "shop", 3, "agent", "https://acme.com", Visitor(VisitorKind.GUEST, "guest"))
CAPACITY = Capacity(total=8, per_account=6)  # and 3 for each widget key


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(redis_url: str, clock: Clock) -> Iterator[WidgetStore]:
    made = WidgetStore(redis_url, clock=clock)
    yield made
    made.close()


@pytest.fixture
def visits(store: WidgetStore) -> Families:
    return Families(store, CAPACITY)


def of(account: str, widget_key: str) -> VisitorSession:
    return replace(VISIT, account=account, widget_key_id=widget_key)


def begin(visits: Families, visit: VisitorSession, count: int) -> list[str]:
    return [visits.begin(visit) for _ in range(count)]


def refused_by(visits: Families, visit: VisitorSession) -> TooManyVisits:
    with pytest.raises(TooManyVisits) as refused:
        visits.begin(visit)
    return refused.value


def test_a_widget_key_has_half_of_what_its_account_has(visits: Families) -> None:
    begin(visits, VISIT, 3)
    assert refused_by(visits, VISIT).limit == "widget-key-visits"
    begin(visits, of("acme", "blog"), 3)
    assert refused_by(visits, of("acme", "new")).limit == "account-visits"
    begin(visits, of("globex", "shop"), 2)
    assert refused_by(visits, of("initech", "shop")).limit == "visits"


def test_a_refused_visit_leaves_nothing_behind(visits: Families, redis_url: str) -> None:
    begin(visits, VISIT, 3)
    with redis.Redis.from_url(redis_url) as client:
        before = client.dbsize()
        for _ in range(50):
            refused_by(visits, VISIT)
        assert client.dbsize() == before


def test_there_is_room_again_when_the_visits_have_ended(visits: Families, clock: Clock) -> None:
    begin(visits, VISIT, 3)
    wait = refused_by(visits, VISIT).retry_after_seconds
    assert IDLE_SECONDS < wait <= IDLE_SECONDS + STEP_SECONDS
    clock.advance(wait - 1)
    refused_by(visits, VISIT)
    clock.advance(1)
    begin(visits, VISIT, 3)


def test_a_visit_that_stays_is_counted_for_as_long_as_it_is_kept(visits: Families, clock: Clock) -> None:
    stays, *_ = begin(visits, VISIT, 3)
    clock.advance(IDLE_SECONDS - 60)
    stays = visits.rotate(stays, VISIT)
    clock.advance(2 * STEP_SECONDS)  # the other two have ended
    begin(visits, VISIT, 2)
    refused_by(visits, VISIT)
    visits.rotate(stays, VISIT)
    refused_by(visits, VISIT)


def test_a_visit_that_has_begun_goes_on_however_full_it_is(visits: Families) -> None:
    token, *_ = begin(visits, VISIT, 3)
    for _ in range(10):
        token = visits.rotate(token, VISIT)
    refused_by(visits, VISIT)


def test_a_visit_that_was_ended_counts_while_its_mark_is_kept(visits: Families, clock: Clock) -> None:
    token, *_ = begin(visits, VISIT, 3)
    visits.rotate(token, VISIT)
    with pytest.raises(RefreshTokenReused):
        visits.rotate(token, VISIT)
    wait = refused_by(visits, VISIT).retry_after_seconds
    clock.advance(wait)
    begin(visits, VISIT, 3)


def test_visits_of_an_older_release_were_not_counted_and_are_not(visits: Families, redis_url: str) -> None:
    begin(visits, VISIT, 1)
    old, *_ = begin(visits, VISIT, 1)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(*client.scan_iter("kataven:widget:visits*"))
    visits.rotate(old, VISIT)
    begin(visits, VISIT, 3)
    refused_by(visits, VISIT)


def test_of_many_at_once_no_more_come_in_than_may(redis_url: str) -> None:
    store = WidgetStore(redis_url)
    visits = Families(store, Capacity(total=100, per_account=20))

    def attempt(_: int) -> bool:
        try:
            return bool(visits.begin(VISIT))
        except TooManyVisits:
            return False

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(attempt, range(64))) == 10
    store.close()


def test_a_user_token_stays_good_when_there_is_no_room(visits: Families, store: WidgetStore, clock: Clock) -> None:
    users = UserTokens(store)
    session_counters = CAPACITY.session_counters(store, "acme", "shop")
    begin(visits, VISIT, 3)
    token = users.issue("acme", UMA)
    with pytest.raises(TooManyVisits):
        users.redeem("acme", token, session_counters)
    assert users.redeem("acme", token, CAPACITY.session_counters(store, "acme", "blog")) == UMA


def test_what_counts_is_small_and_goes_by_itself(store: WidgetStore, redis_url: str, clock: Clock) -> None:
    visits = Families(store, Capacity(total=10_000, per_account=10_000))
    for _ in range(100):
        begin(visits, VISIT, 2)
        clock.advance(180)
    with redis.Redis.from_url(redis_url) as client:
        counters = list(client.scan_iter("kataven:widget:visits*"))
        assert len(counters) == 3
        assert max(map(client.hlen, counters)) <= IDLE_SECONDS / STEP_SECONDS + 2
        assert all(0 < client.ttl(name) <= IDLE_SECONDS + STEP_SECONDS for name in client.scan_iter())


def test_a_site_that_is_full_is_told_when_to_come_back(
    harness: AppHarness, site: Site, vouch: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        client.delete("none", *client.scan_iter("kataven:widget:visits*"))  # of other tests
    monkeypatch.setitem(harness.services.widget.__dict__, "capacity", Capacity(total=1_000_000, per_account=2))
    user_token = vouch()
    first = site.guest()
    assert first.status_code == 200
    before = harness.anybody().get("/metrics").text
    for answer in (site.guest(), site.exchange(user_token)):
        assert refusal(answer) == (429, "too_many_visits")
        assert 0 < int(answer.headers["Retry-After"]) <= IDLE_SECONDS + STEP_SECONDS
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert site.refresh(first.get_json()["refresh_token"]).status_code == 200
    monkeypatch.setitem(harness.services.widget.__dict__, "capacity", Capacity())
    assert site.exchange(user_token).status_code == 200
    sample = 'kataven_limited_total{limit="widget-key-visits"} 2.0'
    assert sample not in before
    assert sample in harness.anybody().get("/metrics").text


def test_surrogates_never_reach_redis(harness: AppHarness, acme_key: Caller) -> None:
    """What is kept there is UTF-8."""
    answer = harness.anybody().call(
        "POST",
        "/v1/widget/auth/user-token",
        headers={"Authorization": acme_key.headers["Authorization"]},
        data=b'{"external_user_id": "\\ud800"}',
        content_type="application/json",
    )
    assert answer.status_code == 400
