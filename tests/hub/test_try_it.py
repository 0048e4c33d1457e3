"""*Try it* at the Hub's `/docs`: read requests as the user of the session, with a token of five minutes."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from werkzeug.test import TestResponse

from kataven.dev.personas import ALICE, BOB
from kataven.hub import try_tokens
from kataven.hub.pages import try_it
from kataven.hub.sessions import Session
from kataven.hub.try_tokens import TRY_SECONDS, is_valid_try_token, issue_try_token
from kataven.web import reference
from tests.hub.conftest import HUB_URL, Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.support.clock import Clock

SESSION, TOKEN, TRY = "/docs/session", "/docs/session/token", "/docs/try"


def token_of(browser: HubBrowser) -> str:
    browser.csrf = browser.get(SESSION).get_json()["csrf"]
    token: str = browser.post(TOKEN).get_json()["token"]
    return token


def tried(browser: HubBrowser, operation: str, token: str | None = None, **parameters: str) -> TestResponse:
    given = {f"parameter.{name}": value for name, value in parameters.items()}
    return browser.post(TRY, {"operation": operation, "token": token_of(browser) if token is None else token, **given})


def session_of(hub: Hub, browser: HubBrowser) -> Session:
    cookie = browser.client.get_cookie(hub.services.cookie_name)
    assert cookie is not None
    session = hub.services.sessions.read(cookie.value)
    assert session is not None
    return session


def test_reference_of_the_hub_is_the_same_for_every_user(hub: Hub, alice: HubBrowser, anonymous: HubBrowser) -> None:
    page = alice.get("/docs")
    assert page.text == anonymous.get("/docs").text
    assert f'data-session="{SESSION}"' in page.text
    assert "acme</b>" in page.text  # the example's account, which the script replaces
    assert session_of(hub, alice).csrf not in page.text


def test_session_names_the_account_and_the_hint_of_a_key(harness: AppHarness, alice: HubBrowser) -> None:
    text = harness.new_key("acme")
    response = alice.get(SESSION)
    found = response.get_json()
    assert (found["user"], found["account"], found["key"]) == ("Alice", "acme", {"name": "test", "hint": text[-8:]})
    assert text not in response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in response.headers


def test_browser_without_a_session_gets_nothing(anonymous: HubBrowser) -> None:
    assert anonymous.get(SESSION).status_code == 303
    for path in (TOKEN, TRY):
        assert anonymous.post(path, {"operation": "getMe", "token": "x"}).status_code == 303


def test_read_request_is_sent_as_the_user(alice: HubBrowser, harness: AppHarness) -> None:
    agent = harness.user(ALICE).post("/v1/agents", {"name": "Tried"}).get_json()
    sent = tried(alice, "getAgent", agent_id=agent["id"]).get_json()
    assert (sent["request"], sent["status"]) == (f"GET /v1/agents/{agent['id']}", "200 OK")
    assert json.loads(sent["body"]) == agent
    assert {"ETag", "X-Request-ID", "RateLimit"} <= {name for name, _ in sent["headers"]}
    listed = tried(alice, "listAgents", limit="1").get_json()
    assert listed["request"] == "GET /v1/agents?limit=1"
    assert len(json.loads(listed["body"])) == 1


def test_refusal_of_the_api_is_shown(alice: HubBrowser, bob: HubBrowser) -> None:
    sent = tried(alice, "listAgents", limit="0").get_json()
    assert (sent["status"], json.loads(sent["body"])["code"]) == ("400 BAD REQUEST", "invalid_request")
    member = tried(bob, "listAuditEvents").get_json()
    assert (member["status"], json.loads(member["body"])["code"]) == ("403 FORBIDDEN", "forbidden")


def test_request_counts_toward_the_limits_of_the_account(alice: HubBrowser) -> None:
    def remaining() -> int:
        found: int = json.loads(tried(alice, "getMe").get_json()["body"])["limits"]["per_day"]["remaining"]
        return found

    before = remaining()
    assert remaining() < before


def test_operation_that_is_not_a_read_is_refused(alice: HubBrowser, hub: Hub) -> None:
    names = {
        operation["operationId"]
        for extension in (reference.EXTENSION, reference.OPERATORS_EXTENSION)
        for methods in reference.document_of(hub.app, extension)["paths"].values()
        for method, operation in methods.items()
        if method != "get" or {"jwt": []} not in operation["security"]
    }
    assert "createApiKey" in names
    for name in [*names, "", "/v1/me"]:
        assert tried(alice, name).status_code == 403, name


def test_parameter_does_not_select_another_operation(alice: HubBrowser, harness: AppHarness) -> None:
    agent = harness.user(ALICE).post("/v1/agents", {"name": "Tried"}).get_json()
    sent = tried(alice, "getAgent", agent_id=f"{agent['id']}/widget-settings")
    assert sent.status_code == 400, sent.get_json()


def test_unknown_parameters_are_rejected(alice: HubBrowser) -> None:
    for given in ({"agent_id": ".."}, {}, {"agent_id": "x", "X-Account-ID": "globex"}):
        assert tried(alice, "getAgent", **given).status_code == 400


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 600, "A" * 64])
def test_request_without_a_valid_token_is_refused(alice: HubBrowser, token: str) -> None:
    alice.csrf = alice.get(SESSION).get_json()["csrf"]
    response = tried(alice, "getMe", token)
    assert (response.status_code, response.get_json()["expired"]) == (403, True)


def test_token_of_another_session_is_refused(hub: Hub, alice: HubBrowser) -> None:
    other = token_of(hub.signed_in(ALICE))
    assert tried(alice, "getMe", token_of(alice)).status_code == 200
    assert tried(alice, "getMe", other).status_code == 403
    assert tried(alice, "getMe", token_of(hub.signed_in(BOB))).status_code == 403


def test_token_is_bound_to_the_account_and_expires_after_five_minutes(hub: Hub, alice: HubBrowser) -> None:
    session, clock = session_of(hub, alice), Clock()
    token = issue_try_token(session, clock())
    assert TRY_SECONDS == 300
    assert is_valid_try_token(token, session, clock() + 299)
    assert not is_valid_try_token(token, session, clock() + 301)
    assert not is_valid_try_token(token, session.with_(account="globex"), clock())
    assert session.user is not None
    assert not is_valid_try_token(token, session.with_(user=replace(session.user, subject="bob")), clock())


def test_forms_without_the_csrf_token_or_from_another_origin_are_refused(alice: HubBrowser) -> None:
    token = token_of(alice)
    form = {"operation": "getMe", "token": token}
    for path in (TOKEN, TRY):
        assert alice.post(path, {**form, "csrf": "x"}).status_code == 403
        assert alice.post(path, form, headers={"Origin": "https://evil.example"}).status_code == 403
        assert alice.post(path, form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_token_is_no_credential_of_the_api(alice: HubBrowser, harness: AppHarness) -> None:
    response = harness.bearer(token_of(alice), "acme").get("/v1/me")
    assert (response.status_code, response.get_json()["code"]) == (400, "malformed_token")


def test_no_secret_is_in_a_response_or_in_the_log(
    hub: Hub, alice: HubBrowser, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    session = session_of(hub, alice)
    assert session.user is not None
    token = token_of(alice)
    with caplog.at_level(logging.DEBUG):
        response = tried(alice, "getMe", token)
    assert response.status_code == 200
    written = caplog.text + "".join(capsys.readouterr())
    for secret in (session.user.access_token, session.secret, token, session.csrf):
        assert secret not in written
        assert secret not in response.text


def test_log_context_of_the_page_survives_the_request_to_the_api(alice: HubBrowser) -> None:
    token = token_of(alice)
    response = alice.client.post(
        TRY,
        base_url=HUB_URL,
        data={"operation": "getMe", "token": token, "csrf": alice.csrf},
        headers={"Origin": HUB_URL, "X-Request-ID": "the-request-of-the-page"},
    )
    assert response.headers["X-Request-ID"] == "the-request-of-the-page"
    assert dict(response.get_json()["headers"])["X-Request-ID"] == "the-request-of-the-page"


def test_long_body_is_truncated(alice: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(try_it, "MAX_SHOWN_CHARACTERS", 10)
    sent = tried(alice, "getMe").get_json()
    assert (len(sent["body"]), sent["truncated"]) == (10, True)


def test_longest_token_is_bounded_before_it_is_decrypted(
    monkeypatch: pytest.MonkeyPatch, hub: Hub, alice: HubBrowser
) -> None:
    monkeypatch.setattr(try_tokens, "unseal", lambda *_: pytest.fail("decrypted"))
    assert not is_valid_try_token("A" * 513, session_of(hub, alice), 0)
