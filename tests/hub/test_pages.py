"""The pages of an account: access, actions and security headers."""

from __future__ import annotations

import re

import pytest

from kataven.hub.formatting import with_code
from kataven.hub.page_blueprint import access_of
from kataven.hub.pages.api_keys import key_list
from tests.hub.conftest import HUB_URL, Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness

KEY = re.compile(r"sk_live_acme_[0-9A-Za-z]{49}")
KEYS = "/settings/api-keys"
NEW = f"{KEYS}/new"


def create_key(browser: HubBrowser, name: str = "A server", expiry: str = "30d") -> str:
    """Create a key. Returns its secret."""
    browser.get(NEW)
    page = browser.post(NEW, {"name": name, "expiry": expiry})
    assert page.status_code == 201, page.text
    found = KEY.search(page.text)
    assert found
    return found[0]


def key_path(browser: HubBrowser, key: str) -> str:
    """The path of the page of the key with this secret."""
    listed = browser.get(KEYS).text
    found = re.findall(rf'<a href="({KEYS}/[0-9a-f-]{{36}})"', listed[: listed.index(f"…{key[-8:]}")])
    assert found
    return str(found[-1])


def revoke_path(browser: HubBrowser, key: str) -> str:
    """The path that revokes the key with this secret."""
    return f"{key_path(browser, key)}/revoke"


def test_created_key_is_shown_once_and_works(hub: Hub, harness: AppHarness, alice: HubBrowser) -> None:
    key = create_key(alice)
    assert harness.bearer(key).get("/v1/me").status_code == 200
    page = alice.get(KEYS)
    assert key not in page.text
    assert key[-8:] in page.text


def test_resubmitted_form_shows_no_key_and_creates_none(alice: HubBrowser) -> None:
    """For example when the page with the key is reloaded."""
    alice.get(NEW)
    form = {"name": "Reloaded once", "expiry": "never"}
    first = alice.post(NEW, form)
    again = alice.post(NEW, form)
    assert (first.status_code, again.status_code) == (201, 409)
    assert not KEY.search(again.text)
    assert alice.get(KEYS).text.count("<bdi>Reloaded once</bdi>") == 1


def test_pages_with_a_secret_are_not_stored(alice: HubBrowser) -> None:
    alice.get(NEW)
    page = alice.post(NEW, {"name": "Kept", "expiry": "30d"})
    assert KEY.search(page.text)
    assert page.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"name": "", "expiry": "30d"}, "name"),
        ({"expiry": "30d"}, "name"),
        ({"name": "x" * 201, "expiry": "30d"}, "name"),
        ({"name": "two\nlines", "expiry": "30d"}, "name"),
        ({"name": "x", "expiry": "2y"}, "expiry"),
        ({"name": "x"}, "expiry"),
    ],
)
def test_form_errors_are_shown_beside_the_field(alice: HubBrowser, form: dict[str, str], field: str) -> None:
    alice.get(NEW)
    page = alice.post(NEW, form)
    assert page.status_code == 400
    assert f'id="{field}-problem"' in page.text
    assert not KEY.search(page.text)


def test_user_text_is_escaped(alice: HubBrowser) -> None:
    alice.get(NEW)
    page = alice.post(NEW, {"name": "<script>alert(1)</script>", "expiry": "30d"})
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert" in alice.get(KEYS).text


def test_key_is_revoked_after_a_question_with_its_receipt(harness: AppHarness, alice: HubBrowser) -> None:
    key = create_key(alice, "To be revoked")
    path = revoke_path(alice, key)
    assert "Revoke API key?" in alice.get(path).text
    assert harness.bearer(key).get("/v1/me").status_code == 200
    assert alice.post(path, {"confirm": "To be revoked"}).location == f"{KEYS}#key-{path.split('/')[-2]}"
    assert harness.bearer(key).get("/v1/me").get_json()["code"] == "revoked_credential"
    page = alice.get(KEYS).text
    assert re.search(r"Revoked “To be revoked” \(…\w{8}\): \d+ of \d+ workers confirmed after \d+ ms", page)
    assert "Revoked “To be revoked”" not in alice.get(KEYS).text


def test_members_see_keys_but_cannot_create_or_revoke_them(alice: HubBrowser, bob: HubBrowser) -> None:
    key = create_key(alice, "Seen by Bob")
    path = revoke_path(alice, key)
    page = bob.get(KEYS)
    assert "Seen by Bob" in page.text
    assert "Create API key" not in page.text
    assert "/revoke" not in page.text
    for attempt, form in ((NEW, {"name": "x", "expiry": "30d"}), (path, {})):
        refused = bob.post(attempt, form)
        assert refused.status_code == 403
        assert "requires the role" in refused.text
    assert bob.get("/audit-log").status_code == 403


def test_keys_of_another_account_are_not_accessible(
    alice: HubBrowser, charlie: HubBrowser, harness: AppHarness
) -> None:
    key = create_key(alice, "Of acme")
    path = revoke_path(alice, key)
    assert "Of acme" not in charlie.get(KEYS).text
    assert charlie.post(path).status_code == 404
    assert harness.bearer(key).get("/v1/me").status_code == 200


def test_form_without_a_valid_csrf_token_changes_nothing(alice: HubBrowser, charlie: HubBrowser) -> None:
    form = {"name": "Forged", "expiry": "30d"}
    alice.get(NEW)
    charlie.get(KEYS)
    attempts = [
        {"data": {**form, "csrf": ""}},
        {"data": form},
        {"data": {**form, "csrf": charlie.csrf}},
        {"data": {**form, "csrf": alice.csrf}, "headers": {"Origin": "https://evil.example"}},
        {"data": {**form, "csrf": alice.csrf}, "headers": {"Origin": "null"}},
        {"data": {**form, "csrf": alice.csrf}, "headers": {"Sec-Fetch-Site": "cross-site"}},
        {"data": {**form, "csrf": alice.csrf}, "headers": {"Sec-Fetch-Site": "same-site"}},
    ]
    for attempt in attempts:
        assert alice.client.post(NEW, base_url=HUB_URL, **attempt).status_code == 403, attempt  # type: ignore[arg-type]
    assert "Forged" not in alice.get(KEYS).text


def test_every_page_declares_its_access(hub: Hub) -> None:
    rules = [rule for rule in hub.pages.url_map.iter_rules() if rule.endpoint != "static"]
    assert len(rules) > 10
    undeclared = [rule.rule for rule in rules if access_of(hub.pages.view_functions[rule.endpoint]) is None]
    assert undeclared == []


def test_pages_without_sign_in_are_listed(hub: Hub, anonymous: HubBrowser) -> None:
    open_to_all = set()
    for rule in hub.pages.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        method = "GET" if "GET" in (rule.methods or set()) else "POST"
        path = re.sub(r"<[^>]+_id>", "00000000-0000-4000-8000-000000000000", rule.rule).replace("<account>", "acme")
        anonymous.get("/sign-in")
        response = anonymous.get(path) if method == "GET" else anonymous.post(path)
        if not (response.status_code == 303 and response.location.startswith("/sign-in")):
            open_to_all.add(rule.rule)
    of_the_issuer = {"/auth/backchannel-logout"}  # verifies a signed token instead
    assert open_to_all == {"/sign-in", "/auth/callback", "/sign-out", "/signed-out", "/help/sign-in"} | of_the_issuer


def test_pages_have_security_headers(alice: HubBrowser) -> None:
    headers = alice.get(KEYS).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "X-Request-ID" in headers


def test_no_page_has_inline_script_or_style(alice: HubBrowser, anonymous: HubBrowser) -> None:
    pages = [alice.get(path).text for path in ("/", KEYS, "/audit-log", "/accounts", "/nowhere")]
    pages.append(anonymous.get("/sign-in").text)
    for page in pages:
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", page)


def test_unknown_path_shows_a_not_found_page(alice: HubBrowser, anonymous: HubBrowser) -> None:
    for browser in (alice, anonymous):
        page = browser.get("/nowhere")
        assert page.status_code == 404
        assert "Page not found" in page.text
    assert alice.post("/settings/api-keys/not-an-id/revoke").status_code == 404
    assert alice.post("/settings/api-keys/00000000-0000-4000-8000-000000000000/revoke").status_code == 404


def test_audit_log_lists_and_filters_events(alice: HubBrowser) -> None:
    key = create_key(alice, "Audited")
    alice.post(revoke_path(alice, key))
    page = alice.get("/audit-log?action=api_key.revoked").text
    assert key[-8:] in page
    assert "api_key.created</code>" not in page
    assert "No events found" in alice.get("/audit-log?actor=jwt:nobody").text
    assert key not in page


def test_long_lists_are_paginated(hub: Hub, charlie: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_list, "PAGE_SIZE", 1)
    for name in ("First of two", "Second of two"):
        charlie.get(NEW)
        charlie.post(NEW, {"name": name, "expiry": "30d"})
    page = charlie.get(KEYS).text
    assert "Second of two" in page
    assert "First of two" not in page
    found = re.search(r'href="([^"]+cursor=[^"]+)"', page)
    assert found
    assert "First of two" in charlie.get(found[1]).text
    assert charlie.get(f"{KEYS}?cursor=junk").status_code == 200


def test_hub_serves_the_legacy_path_but_not_the_rest_of_the_api(
    harness: AppHarness, hub: Hub, alice: HubBrowser
) -> None:
    key = harness.new_key("acme")
    headers = {"Authorization": f"Bearer {key}"}
    assert alice.get("/hub-api/api/v1/me", headers=headers).status_code == 200
    assert alice.get("/healthz").get_json() == {"status": "ok"}
    for path in ("/v1/me", "/api/v1/me", "/api/accounts"):
        assert alice.get(path, headers=headers).status_code == 404


def test_page_returns_503_without_redis(hub: Hub, alice: HubBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    from kataven.hub.sessions import Sessions

    monkeypatch.setattr(hub.services.sessions, "_redis", Sessions("redis://127.0.0.1:1/0", timeout_seconds=0.2)._redis)
    page = alice.get(KEYS)
    assert page.status_code == 503
    assert page.headers["Retry-After"]


def test_address_over_its_budget_gets_429(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = hub.browser()
    statuses = {browser.get("/sign-in", environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code for _ in range(301)}
    assert statuses == {200, 429}


def test_backticks_render_as_code_and_markup_is_escaped() -> None:
    assert with_code("Set `<project id>` & go.") == "Set <code>&lt;project id&gt;</code> &amp; go."
