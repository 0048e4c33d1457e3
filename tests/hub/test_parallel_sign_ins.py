"""Sign-ins from several tabs of one browser: each tab is redirected to its own page."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from werkzeug.test import TestResponse

from kataven.dev.personas import ALICE, BOB, CHARLIE
from kataven.hub.anonymous import ANONYMOUS_SECONDS
from kataven.hub.sessions import MAX_SIGN_INS, Session, Sessions, SignIn
from kataven.hub.sign_in import MAX_NEXT_BYTES
from tests.hub.conftest import Hub
from tests.hub.forms import forms_of
from tests.hub.hub_browser import HubBrowser, redirect_target
from tests.hub.test_sessions import Clock


def start_sign_in(browser: HubBrowser, next_path: str = "/", account: str = "acme") -> str:
    """Start a sign-in in one tab. Returns the issuer's URL."""
    browser.get(f"/sign-in?{urlencode({'next': next_path})}")
    return redirect_target(browser.post("/sign-in", {"account": account, "next": next_path}))


def finish(browser: HubBrowser, to_issuer: str, person: object = ALICE) -> TestResponse:
    return browser.get(browser.sign_in_at_issuer(to_issuer, person))  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["as they began", "the other way round"])
def test_parallel_sign_ins_in_two_tabs_both_succeed(hub: Hub, order: tuple[int, int]) -> None:
    browser = hub.browser()
    asked = [start_sign_in(browser, "/agents"), start_sign_in(browser, "/widget")]
    for tab in order:
        assert finish(browser, asked[tab]).location == ("/agents", "/widget")[tab]
    assert "Alice" in browser.get("/").text


def test_second_tab_keeps_the_session_of_the_first(hub: Hub) -> None:
    """Forms that were opened in the first tab in the meantime still work."""
    browser = hub.browser()
    first, second = start_sign_in(browser), start_sign_in(browser)
    finish(browser, first)
    form = forms_of(browser.get("/agents/new").text)["/agents/new"]
    finish(browser, second)
    response = browser.client.post("/agents/new", base_url=browser.url, data={**form.fields, "name": "Opened before"})
    assert response.status_code == 303


def test_sign_in_form_redirects_if_another_tab_signed_in(hub: Hub) -> None:
    browser = hub.browser()
    form = forms_of(browser.get("/sign-in?next=/audit-log").text)["/sign-in"]
    browser.sign_in(ALICE)
    for account, led_to in (("acme", "/audit-log"), ("", "/audit-log"), ("globex", "/accounts")):
        response = browser.client.post(
            "/sign-in",
            base_url=browser.url,
            data={**form.fields, "account": account},
            headers={"Origin": browser.url},
        )
        assert (response.status_code, response.location) == (303, led_to)
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_sign_in_form_from_another_site_is_rejected(hub: Hub, headers: dict[str, str]) -> None:
    browser = hub.signed_in(ALICE)
    form = {"account": "acme", "next": "/audit-log", "csrf": "made up"}
    response = browser.client.post("/sign-in", base_url=browser.url, data=form, headers=headers)
    assert response.status_code == 403
    assert "/sign-in" not in forms_of(response.text)


def test_second_tab_can_sign_in_to_another_account(hub: Hub) -> None:
    browser = hub.browser()
    first, second = start_sign_in(browser), start_sign_in(browser, account="globex")
    finish(browser, first)
    finish(browser, second, CHARLIE)
    page = browser.get("/").text
    assert "Charlie" in page
    assert "Globex" in page


def test_second_tab_can_sign_in_another_user(hub: Hub) -> None:
    browser = hub.browser()
    first, second = start_sign_in(browser), start_sign_in(browser)
    finish(browser, first, ALICE)
    finish(browser, second, BOB)
    assert "Bob" in browser.get("/").text


def test_each_sign_in_can_be_finished_once(hub: Hub) -> None:
    browser = hub.browser()
    backs = [browser.sign_in_at_issuer(start_sign_in(browser), ALICE) for _ in range(3)]
    cookie = browser.client.get_cookie(hub.services.cookie_name, "localhost")
    assert cookie is not None
    for back in backs:
        assert browser.get(back).status_code == 303
    other = hub.browser()
    for back in backs:  # a copy of the earlier cookie
        other.client.set_cookie(hub.services.cookie_name, cookie.value, domain="localhost")
        page = other.get(back)
        assert page.status_code == 400
        assert "already used" in page.text


def test_unknown_state_consumes_no_pending_sign_in(hub: Hub) -> None:
    browser = hub.browser()
    good = browser.sign_in_at_issuer(start_sign_in(browser), ALICE)
    for state in ("other", ""):
        query = {**dict(parse_qsl(urlsplit(good).query)), "state": state}
        assert browser.get(f"/auth/callback?{urlencode(query)}").status_code == 400
    assert browser.get("/auth/callback").status_code == 400
    assert browser.get(good).status_code == 303


def test_two_sign_in_pages_opened_at_the_same_time(hub: Hub) -> None:
    """Each page sets a cookie and the browser keeps the last one: the other form is shown again, filled in."""
    one, other = hub.browser(), hub.browser()
    form = forms_of(one.get("/sign-in?next=/agents").text)["/sign-in"]
    other.get("/sign-in")
    page = other.client.post(
        "/sign-in", base_url=other.url, data={**form.fields, "account": "acme"}, headers={"Origin": other.url}
    )
    assert page.status_code == 403
    again = forms_of(page.text)["/sign-in"]
    assert (again.fields["account"], again.fields["next"]) == ("acme", "/agents")
    response = other.client.post("/sign-in", base_url=other.url, data=again.fields, headers={"Origin": other.url})
    assert finish(other, redirect_target(response)).location == "/agents"


# Stored sign-ins


def sign_in(number: int, next_path: str = "/", began_at: float = 1_000.0) -> SignIn:
    return SignIn(f"state {number}", "n" * 32, "v" * 64, "a" * 63, next_path, began_at)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(redis_url: str, clock: Clock) -> Iterator[Sessions]:
    sessions = Sessions(redis_url, clock=clock)
    yield sessions
    sessions.close()


def test_last_five_sign_ins_are_kept(sessions: Sessions) -> None:
    session = sessions.new()
    for number in range(MAX_SIGN_INS + 2):
        session = session.with_sign_in(sign_in(number))
    kept = sessions.read(sessions.cookie_of(session))
    assert kept is not None
    assert [one.state for one in kept.sign_ins] == [f"state {number}" for number in range(2, MAX_SIGN_INS + 2)]
    assert MAX_SIGN_INS == 5


@pytest.mark.parametrize("letter", ["x", "ö", '"'])
def test_pending_sign_ins_always_fit_into_a_cookie(sessions: Sessions, letter: str) -> None:
    longest = "/" + letter * ((MAX_NEXT_BYTES - 1) // len(letter.encode()))
    session = sessions.new()
    for number in range(MAX_SIGN_INS):
        session = session.with_sign_in(sign_in(number, longest))
        cookie = sessions.cookie_of(session)
        assert len(cookie) < 3_950  # with its attributes, 4096 bytes
        kept = sessions.read(cookie)
        assert kept is not None
        # Quotation marks are escaped and take twice the space, so fewer sign-ins fit.
        assert len(kept.sign_ins) == (number + 1 if letter != '"' else min(number + 1, 2))
        assert kept.sign_ins[-1].state == f"state {number}"
        assert kept.sign_ins[-1].next_path == longest  # the oldest sign-in loses its next page
    assert kept.sign_ins[0].next_path == "/"


def test_sign_in_expires_after_15_minutes_even_if_the_cookie_is_renewed(sessions: Sessions, clock: Clock) -> None:
    session: Session | None = sessions.new().with_sign_in(sign_in(1, began_at=clock.now))
    for passed in (ANONYMOUS_SECONDS - 1, 1):
        assert session is not None
        assert session.pending_sign_in("state 1", clock.now) is not None
        cookie = sessions.cookie_of(session)
        clock.now += passed
        session = sessions.read(cookie)
    assert session is not None
    assert session.pending_sign_in("state 1", clock.now) is None
