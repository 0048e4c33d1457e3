"""The Hub's pages for what an API key may do, from where, since when and how often."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.hub.conftest import Hub
from tests.hub.forms import forms_of
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness, Caller
from tests.support.waiting import wait_until

KEYS = "/settings/api-keys"
NEW = f"{KEYS}/new"
SECRET = re.compile(r"sk_live_acme_[0-9A-Za-z]{49}")


def submit(browser: HubBrowser, **fields: str) -> TestResponse:
    form = forms_of(browser.get(NEW).text)[NEW]
    return browser.post(NEW, {**form.fields, "name": "Restricted", "expiry": "30d", **fields})


def created(harness: AppHarness, browser: HubBrowser, **fields: str) -> tuple[str, Caller]:
    """The path of the new key's page, and a caller with the key."""
    page = submit(browser, **fields)
    assert page.status_code == 201, page.text
    secret = SECRET.search(page.text)
    assert secret
    hint = browser.get(KEYS).text.partition(f"…{secret[0][-8:]}")[0]
    key_id = hint.rpartition('id="key-')[2][:36]
    return f"{KEYS}/{key_id}", harness.bearer(secret[0])


def stored(alice_at_api: Caller, path: str) -> dict[str, Any]:
    keys = alice_at_api.get("/v1/api-keys?limit=200").get_json()
    return next(key for key in keys if path.endswith(key["id"]))


def test_default_is_full_access_without_conditions(harness: AppHarness, alice: HubBrowser, acme_key: Caller) -> None:
    path, _ = created(harness, alice)
    key = stored(acme_key, path)
    assert (key["scopes"], key["allowed_addresses"], key["from_browsers"], key["limits"]) == (None, [], False, None)
    assert "Full access" in alice.get(path).text


NOUNS = ("agents", "api-keys", "widget-keys", "widget-settings", "usage", "requests")


@pytest.mark.parametrize(
    ("fields", "scopes"),
    [
        ({"access": "read"}, [f"{noun}:read" for noun in NOUNS]),
        (
            {"access": "custom", "scope.agents:write": "on", "scope.agents:read": "on", "scope.widget-keys:read": "on"},
            ["agents:write", "widget-keys:read"],
        ),
        ({"access": "full", "scope.agents:read": "on"}, None),
    ],
)
def test_presets_set_scopes(
    harness: AppHarness, alice: HubBrowser, acme_key: Caller, fields: dict[str, str], scopes: list[str] | None
) -> None:
    path, caller = created(harness, alice, **fields)
    assert stored(acme_key, path)["scopes"] == scopes
    assert (caller.get("/v1/widget-settings").status_code == 403) == (scopes is not None and len(scopes) == 2)


def test_conditions_and_limits_of_a_new_key_apply(harness: AppHarness, alice: HubBrowser, acme_key: Caller) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    path, caller = created(
        harness,
        alice,
        allowed_addresses="192.0.2.0/24\r\n\r\n 2001:db8::7 ",
        denied_addresses="192.0.2.66",
        not_before=tomorrow,
        per_minute="1,0",
    )
    key = stored(acme_key, path)
    assert (key["allowed_addresses"], key["denied_addresses"]) == (
        ["192.0.2.0/24", "2001:db8::7/128"],
        ["192.0.2.66/32"],
    )
    assert (key["status"], key["limits"]["per_minute"]) == ("not_yet_valid", 10)
    assert key["not_before"].startswith(tomorrow)
    assert "not yet valid" in alice.get(path).text
    assert caller.get("/v1/me").get_json()["code"] == "credential_not_yet_valid"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"access": "custom"}, "Choose at least one scope"),
        ({"access": "all"}, "Choose an access from the list"),
        ({"allowed_addresses": "192.0.2.1\nacme.com"}, "Allowed addresses, line 2: must be an IP address"),
        ({"denied_addresses": "192.0.2.7/24"}, "did you mean 192.0.2.0/24?"),
        ({"not_before": "tomorrow"}, "Not valid before (UTC) must be a date and a time"),
        ({"per_minute": "many"}, "must be a whole number"),
        ({"per_minute": "999999999"}, "above the account"),
    ],
)
def test_mistakes_are_explained_and_the_form_is_kept(alice: HubBrowser, fields: dict[str, str], message: str) -> None:
    page = submit(alice, **{"scope.agents:read": "on", **fields} if "access" not in fields else fields)
    assert page.status_code == 400
    assert message in page.text.replace("&#39;", "'")
    form = forms_of(page.text)[NEW]
    for name, value in fields.items():
        assert form.fields[name].splitlines() == value.splitlines() or name == "access"
    assert "Restricted" in page.text


def test_conditions_are_changed_with_a_receipt_and_a_warning(harness: AppHarness, alice: HubBrowser) -> None:
    path, caller = created(harness, alice)
    own = alice.client.environ_base["REMOTE_ADDR"]
    assert caller.get("/v1/me").status_code == 200
    edit = f"{path}/edit"
    page = alice.get(edit)
    assert f"This page was requested from {own}" in page.text
    alice.post(edit, {**forms_of(page.text)[edit].fields, "allowed_addresses": "192.0.2.0/24"})
    page = alice.get(path)
    assert re.search(r"Saved “Restricted”: applied on \d+ of \d+ workers", page.text)
    assert f"Requests from your own address, {own}, are rejected." in page.text
    assert caller.get("/v1/me").get_json()["code"] == "address_not_allowed"
    alice.post(edit, {**forms_of(alice.get(edit).text)[edit].fields, "allowed_addresses": f"127.0.0.0/8\n{own}"})
    assert "are rejected" not in alice.get(path).text
    assert caller.get("/v1/me").status_code == 200


def test_time_that_the_form_shows_without_its_seconds_is_kept(
    harness: AppHarness, alice: HubBrowser, acme_key: Caller
) -> None:
    start = (datetime.now(UTC) + timedelta(days=1)).replace(second=59, microsecond=1)
    harness.new_key("acme", name="Seconds", not_before=start)
    (key,) = acme_key.get("/v1/api-keys?q=Seconds").get_json()
    path = f"{KEYS}/{key['id']}"
    edit = f"{path}/edit"
    alice.post(edit, {**forms_of(alice.get(edit).text)[edit].fields, "denied_addresses": "192.0.2.66"})
    saved = stored(acme_key, path)
    assert (saved["denied_addresses"], datetime.fromisoformat(saved["not_before"])) == (["192.0.2.66/32"], start)
    earlier = start - timedelta(hours=1)
    fields = {**forms_of(alice.get(edit).text)[edit].fields, "not_before": f"{earlier:%Y-%m-%dT%H:%M}"}
    alice.post(edit, fields)
    assert stored(acme_key, path)["not_before"].startswith(fields["not_before"])


def test_key_is_paused_and_resumed_with_receipts(harness: AppHarness, alice: HubBrowser) -> None:
    path, caller = created(harness, alice)
    assert caller.get("/v1/me").status_code == 200
    alice.get(path)
    alice.post(f"{path}/pause")
    page = alice.get(path)
    assert re.search(r"Paused “Restricted” \(….{8}\): \d+ of \d+ workers confirmed", page.text)
    assert caller.get("/v1/me").get_json()["code"] == "paused_credential"
    assert f"{path}/revoke" in alice.get(path).text, "a paused key can be revoked"
    timeline = alice.get(path).text.partition("<h2>Timeline</h2>")[2].partition("</ol>")[0]
    assert re.search(r"<b>Paused</b> by .*\d+ of \d+ workers confirmed", timeline)
    alice.get(path)
    alice.post(f"{path}/resume")
    assert caller.get("/v1/me").status_code == 200


def test_key_that_a_browser_sent_is_marked_with_advice(harness: AppHarness, alice: HubBrowser) -> None:
    path, caller = created(harness, alice)
    assert caller.get("/v1/me", headers={"Origin": "https://acme.com"}).status_code == 403
    wait_until(lambda: "This key was sent by a browser" in alice.get(path).text, 20)
    assert "sent by a browser" in alice.get(KEYS).text


def test_member_sees_the_rules_and_can_not_change_them(harness: AppHarness, alice: HubBrowser, bob: HubBrowser) -> None:
    path, caller = created(harness, alice, access="read")
    page = bob.get(path)
    assert "Read only: agents:read" in page.text
    assert f"{path}/pause" not in page.text
    bob.get(KEYS)
    assert {bob.post(at).status_code for at in (f"{path}/edit", f"{path}/pause", f"{path}/revoke")} == {403}
    assert caller.get("/v1/me").status_code == 200


def test_another_account_does_not_find_the_key(
    hub: Hub, harness: AppHarness, alice: HubBrowser, charlie: HubBrowser
) -> None:
    path, caller = created(harness, alice)
    charlie.get(KEYS)
    assert [charlie.get(path).status_code, charlie.post(f"{path}/pause").status_code] == [404, 404]
    assert caller.get("/v1/me").status_code == 200


def test_operator_creates_pauses_and_resumes_a_key_of_an_account(
    harness: AppHarness, olivia: HubBrowser, acme_key: Caller
) -> None:
    keys = "/console/accounts/acme/keys"
    form = forms_of(olivia.get(keys).text)[keys]
    page = olivia.post(keys, {**form.fields, "name": "By Olivia", "expiry": "30d", "access": "read"})
    secret = SECRET.search(page.text)
    assert secret
    caller = harness.bearer(secret[0])
    assert caller.post("/v1/agents", {"name": "x"}).get_json()["code"] == "insufficient_scope"
    path = f"{keys}/{caller.get('/v1/me').get_json()['credential']['id']}"
    assert "Read only: agents:read" in olivia.get(path).text
    olivia.post(f"{path}/pause")
    assert "Paused “By Olivia”" in olivia.get(path).text
    assert caller.get("/v1/me").get_json()["code"] == "paused_credential"
    assert "By Olivia" in olivia.get(f"{keys}?status=paused").text
    assert "By Olivia" not in olivia.get(f"{keys}?status=active").text
    olivia.get(path)
    olivia.post(f"{path}/resume")
    assert caller.get("/v1/me").status_code == 200
