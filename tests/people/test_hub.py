"""The Hub when access ends: back-channel logout, open pages, open forms, and refreshed tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from kataven.dev.issuer import CLIENT_ID
from kataven.dev.personas import ALICE, BOB
from kataven.people.access import Cause
from kataven.people.signed_events import LOGOUT_EVENT
from kataven.revocation import EVERYTHING
from kataven.revocation.receipt import RevocationUnconfirmed
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.web.services import EXTENSION, Services
from tests.hub.conftest import Hub, hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.support.jose import without_none

__all__ = ["hub"]

CAUSE = Cause("a test", "test:hub")
LOGOUT = "/auth/backchannel-logout"


@pytest.fixture
def services(hub: Hub) -> Services:
    found: Services = hub.app.extensions[EXTENSION]
    return found


@pytest.fixture(autouse=True)
def _without_cutoffs(services: Services) -> Iterator[None]:
    """The issuer signs in only users that all tests share."""
    yield
    change_cutoffs(services, "DELETE FROM subject_cutoffs")


def let_a_second_pass(services: Services) -> None:
    """As if the cutoffs were older: a cutoff refuses what is issued in its second."""
    change_cutoffs(
        services, "UPDATE subject_cutoffs SET not_before = not_before - interval '2 s', signed_in_before = NULL"
    )


def change_cutoffs(services: Services, statement: str) -> None:
    with services.directory.database.writing() as session:
        session.execute(text(statement))
    services.revocation.revoke(EVERYTHING)


def logout_token(harness: AppHarness, **claims: Any) -> str:
    now = int(time.time())
    said = {
        "iss": harness.issuer.url,
        "aud": CLIENT_ID,
        "sub": f"dana-{uuid4()}",
        "iat": now,
        "exp": now + 120,
        "jti": str(uuid4()),
        "events": {LOGOUT_EVENT: {}},
    }
    return harness.issuer.signer().token(without_none({**said, **claims}), typ="logout+jwt")


def send(hub: Hub, token: str | None, **options: Any) -> Any:
    """The request of the issuer's server: no cookie, no `Origin`."""
    data = {} if token is None else {"logout_token": token}
    return hub.app.test_client().post(LOGOUT, base_url=hub.services.url, data=data, **options)


def signed_in(hub: Hub) -> HubBrowser:
    browser = hub.signed_in(BOB)
    assert browser.get("/agents").status_code == 200
    return browser


def test_a_logout_token_ends_the_users_sessions_and_tokens(hub: Hub, harness: AppHarness) -> None:
    browser = signed_in(hub)
    caller = harness.bearer(harness.issuer.token(BOB), "acme")
    assert caller.get("/v1/me").status_code == 200
    response = send(hub, logout_token(harness, sub=BOB.subject))
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert caller.get("/v1/me").get_json()["code"] == "session_ended"
    ended = browser.get("/agents")
    assert ended.status_code == 303
    page = browser.get(ended.headers["Location"])
    assert "Your sessions were ended by an administrator" in page.text
    assert 'action="/sign-in"' in page.text


def test_a_logout_token_with_only_a_session_ends_it(hub: Hub, harness: AppHarness) -> None:
    hub.services.sessions.remember_subject("a session at the issuer", BOB.subject)
    browser = signed_in(hub)
    assert send(hub, logout_token(harness, sub=None, sid="another")).status_code == 200
    assert browser.get("/agents").status_code == 200
    assert send(hub, logout_token(harness, sub=None, sid="a session at the issuer")).status_code == 200
    assert browser.get("/agents").status_code == 303


@pytest.mark.parametrize(
    ("claims", "rule"),
    [
        ({"aud": "another"}, "audience"),
        ({"iss": "https://another.example"}, "issuer"),
        ({"nonce": "n"}, "nonce"),
        ({"events": None}, "events"),
        ({"exp": 1}, "expired"),
        ({"jti": None}, "jti"),
        ({"sub": None}, "subject"),
    ],
    ids=str,
)
def test_an_invalid_logout_token_is_refused_by_its_rule(
    hub: Hub, harness: AppHarness, claims: dict[str, Any], rule: str
) -> None:
    response = send(hub, logout_token(harness, **claims))
    assert (response.status_code, response.get_json()["error"]) == (400, "invalid_request")
    assert response.get_json()["error_description"].startswith(f"{rule}: ")
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers


def test_a_replayed_logout_token_is_refused_and_ends_nothing(hub: Hub, harness: AppHarness, services: Services) -> None:
    token = logout_token(harness, sub=BOB.subject)
    assert send(hub, token).status_code == 200
    let_a_second_pass(services)
    browser = signed_in(hub)
    response = send(hub, token)
    assert response.get_json()["error_description"].startswith("replay: ")
    assert browser.get("/agents").status_code == 200


@pytest.mark.parametrize("token", [None, "", "no token", "a.b.c"])
def test_a_request_without_a_logout_token_is_refused(hub: Hub, token: str | None) -> None:
    assert send(hub, token).status_code == 400


def test_a_long_request_is_refused_before_it_is_parsed(hub: Hub) -> None:
    assert send(hub, "x" * 40_000).status_code == 413


@pytest.mark.parametrize("error", [RevocationUnconfirmed(), SystemDatabaseUnavailable()], ids=repr)
def test_without_a_receipt_the_issuer_is_asked_to_send_the_token_again(
    hub: Hub, harness: AppHarness, services: Services, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    token = logout_token(harness)

    def unconfirmed(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(services.people, "apply_event", unconfirmed)
        response = send(hub, token)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.headers["Cache-Control"] == "no-store"
    assert send(hub, token).status_code == 200


def test_a_refreshed_token_does_not_revive_the_session(hub: Hub, harness: AppHarness, services: Services) -> None:
    browser = signed_in(hub)
    services.people.end_sessions(services.people.person(BOB.subject), None, CAUSE)
    cookie = browser.client.get_cookie(hub.services.cookie_name)
    assert cookie is not None
    session = hub.services.sessions.read(cookie.value)
    assert session is not None
    assert session.user is not None
    newer = harness.issuer.token(BOB, claims={"iat": int(time.time()) + 20})
    hub.services.sessions.save(session.with_(user=replace(session.user, access_token=newer)))
    assert browser.get("/agents").status_code == 303
    assert hub.services.sessions.read(cookie.value) is None


def test_a_form_that_was_open_changes_nothing(hub: Hub, harness: AppHarness, services: Services) -> None:
    browser = hub.signed_in(ALICE)
    browser.get("/agents/new")
    services.people.end_sessions(services.people.person(ALICE.subject), "acme", CAUSE)
    name = f"Never saved {uuid4()}"
    response = browser.post("/agents/new", {"name": name})
    assert response.status_code == 303
    assert response.headers["Location"].startswith("/sign-in?")
    assert "ended=revoked" in response.headers["Location"]
    let_a_second_pass(services)
    assert name not in {agent["name"] for agent in harness.user(ALICE).get("/v1/agents?limit=200").get_json()}


def test_a_new_sign_in_is_accepted(hub: Hub, services: Services) -> None:
    browser = signed_in(hub)
    services.people.end_sessions(services.people.person(BOB.subject), None, CAUSE, signed_out=True)
    assert browser.get("/agents").status_code == 303
    let_a_second_pass(services)
    assert browser.sign_in(BOB).get("/agents").status_code == 200


def test_pages_without_an_account_are_refused_as_well(hub: Hub, services: Services) -> None:
    browser = signed_in(hub)
    assert browser.get("/accounts").status_code == 200
    services.people.end_sessions(services.people.person(BOB.subject), None, CAUSE)
    assert browser.get("/accounts").status_code == 303


def test_a_blocked_user_can_choose_another_account(hub: Hub, services: Services) -> None:
    browser, person = signed_in(hub), services.people.person(BOB.subject)
    services.people.block(person, BOB.name, "acme", CAUSE)
    try:
        page = browser.get("/agents")
        assert page.status_code == 403
        assert "Your access to this account is blocked" in page.text
        assert 'href="/accounts"' in page.text
        assert browser.get("/accounts").status_code == 200
    finally:
        services.people.lift(person.id, "acme")
    assert browser.get("/agents").status_code == 200


def test_redis_contains_no_subject_of_a_session_in_plain_text(hub: Hub) -> None:
    sessions = hub.services.sessions
    sessions.remember_subject("a sid", "a-subject")
    assert sessions.subject_of("a sid") == "a-subject"
    assert sessions.subject_of("another sid") is None
    for key in sessions._redis.scan_iter("hub:sid:*"):
        assert b"a sid" not in key
        assert b"a-subject" not in (sessions._redis.get(key) or b"")
