"""The Hub's pages of one API key: rotation, scopes, conditions, revocation and the timeline."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from kataven.hub.pages.api_keys import edit, recent_use
from tests.api.test_rotation import ACCEPTED, ROTATED, outcome
from tests.hub.conftest import Hub
from tests.hub.forms import forms_of
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness
from tests.support.servers import ask
from tests.support.waiting import wait_until

KEYS = "/settings/api-keys"
SECRET = re.compile(r"sk_live_acme_[0-9A-Za-z]{49}")
KEPT = "?q=kept&show=active"
"""A state of the list, which the pages keep."""


def new_key(harness: AppHarness, **columns: Any) -> tuple[str, str]:
    """The path of the key's page, and the secret."""
    secret = harness.new_key("acme", **columns)
    return f"{KEYS}/{harness.bearer(secret).get('/v1/me').get_json()['credential']['id']}", secret


def rotated(browser: HubBrowser, path: str, grace: str = "3600") -> str:
    """Rotate in the Hub. Returns the new secret."""
    browser.get(f"{path}/rotate")
    page = browser.post(f"{path}/rotate", {"grace": grace})
    assert page.status_code == 201, page.text
    found = SECRET.search(page.text)
    assert found
    return found[0]


def section(page: str, heading: str) -> str:
    return html.unescape(page[page.index(f"<h2>{heading}</h2>") :].partition("</section>")[0])


# Rotation


def test_rotation_leads_from_the_question_to_the_end_of_the_old_secret(harness: AppHarness, alice: HubBrowser) -> None:
    path, old = new_key(harness, name="Wizard")
    page = alice.get(f"{path}/rotate{KEPT}").text
    assert '<li aria-current="step">Confirm</li>' in page
    assert f"…{old[-8:]} is accepted until the new one is used" in page
    new = rotated(alice, path)
    assert new not in alice.get(path).text
    state = section(alice.get(path).text, "Secret")
    assert "accepted until the new secret is used, and then for 1 hour" in state
    assert "The new secret was not used yet" in state
    assert (outcome(harness, old), outcome(harness, new)) == (ACCEPTED, ACCEPTED)
    wait_until(lambda: "accepted, ends" in section(alice.get(path).text, "Secret"), 60)

    assert "end it first" in alice.get(f"{path}/rotate").text, "two secrets are accepted"
    done = alice.post(f"{path}/former-secret{KEPT}", {"ends_in": "0"})
    assert done.location == f"{path}{KEPT}#secrets"
    page = alice.get(path).text
    assert re.search(r"Ended the former secret of “Wizard”: \d+ of \d+ workers confirmed after \d+ ms", page)
    assert (outcome(harness, old), outcome(harness, new)) == (ROTATED, ACCEPTED)
    wait_until(lambda: "A program still sends a former secret" in section(alice.get(path).text, "Secret"), 90)
    assert "from <code>127.0.0.1</code>" in section(alice.get(path).text, "Secret")


def test_resubmitted_rotation_shows_no_secret_and_does_not_rotate_again(harness: AppHarness, alice: HubBrowser) -> None:
    path, old = new_key(harness)
    alice.get(f"{path}/rotate")
    form = {"grace": "60"}
    first, again = (alice.post(f"{path}/rotate", form) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 409)
    new = SECRET.search(first.text)
    assert new
    assert not SECRET.search(again.text)
    assert (outcome(harness, old), outcome(harness, new[0])) == (ACCEPTED, ACCEPTED)


def test_unused_secret_is_replaced_with_a_receipt(harness: AppHarness, alice: HubBrowser) -> None:
    path, old = new_key(harness)
    lost = rotated(alice, path)
    page = alice.get(f"{path}/rotate")
    assert f"…{old[-8:]} remains accepted" in page.text
    page = alice.post(f"{path}/rotate", {"grace": "60"})
    assert re.search(rf"The unused secret …{lost[-8:]} is refused: \d+ of \d+ workers confirmed", page.text)
    receipt = re.search(r'after \d+ ms\. <a href="([^"]+)">View receipt</a></p>', page.text)
    assert receipt
    assert "Rotated" in alice.get(receipt[1]).text
    assert (outcome(harness, lost), outcome(harness, old)) == (ROTATED, ACCEPTED)


@pytest.mark.parametrize("grace", ["", "-1", "604801", "a day"])
def test_invalid_grace_period_is_refused(harness: AppHarness, alice: HubBrowser, grace: str) -> None:
    path, _ = new_key(harness)
    alice.get(f"{path}/rotate")
    page = alice.post(f"{path}/rotate", {"grace": grace})
    assert page.status_code == 400
    assert 'id="grace-problem"' in page.text
    assert not SECRET.search(page.text)


# Scopes


def test_scopes_are_reduced_with_a_receipt_and_never_extended(harness: AppHarness, alice: HubBrowser) -> None:
    path, secret = new_key(harness, scopes=["agents:write", "widget-keys:read"])
    caller = harness.bearer(secret)
    assert caller.get("/v1/widget-keys").status_code == 200
    page = alice.get(f"{path}/scopes").text
    offered = re.findall(r'name="scope\.([^"]+)"', page)
    assert offered == ["agents:read", "agents:write", "widget-keys:read"]
    assert alice.post(f"{path}/scopes", {"scope.agents:read": "on"}).status_code == 303
    page = alice.get(path).text
    assert re.search(r"Reduced the scopes of “test” to agents:read: applied on \d+ of \d+ workers", page)
    assert caller.get("/v1/widget-keys").get_json()["code"] == "insufficient_scope"
    assert caller.get("/v1/agents").status_code == 200
    wider = alice.post(f"{path}/scopes", {"scope.agents:write": "on"})
    assert wider.status_code == 400
    assert "reduced in the meantime" in wider.text
    assert alice.post(f"{path}/scopes", {}).status_code == 400
    assert "Changed scopes to Read only: agents:read" in section(alice.get(path).text, "Timeline")


def test_full_access_can_be_reduced(harness: AppHarness, alice: HubBrowser) -> None:
    path, secret = new_key(harness)
    alice.get(f"{path}/scopes")
    alice.post(f"{path}/scopes", {"scope.agents:read": "on"})
    assert harness.bearer(secret).post("/v1/agents", {"name": "x"}).get_json()["code"] == "insufficient_scope"


# Name, conditions and limits


def test_key_is_renamed_and_limited(harness: AppHarness, alice: HubBrowser) -> None:
    path, _ = new_key(harness, name="Before")
    page = alice.get(f"{path}/edit{KEPT}").text
    form = next(form for action, form in forms_of(page).items() if "/edit" in action)
    done = alice.post(html.unescape(form.action), {**form.fields, "name": "After", "per_minute": "7"})
    assert done.location == f"{path}{KEPT}"
    page = alice.get(path).text
    assert re.search(r"Saved “After”: applied on \d+ of \d+ workers", page)
    assert "7 per minute" in section(page, "Details")
    events = section(page, "Timeline")
    assert "Renamed from “Before” to “After”" in events
    assert "Changed limits to 7 per minute" in events


def test_lists_that_exclude_all_recent_addresses_need_a_confirmation(
    harness: AppHarness, alice: HubBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (recent_use, edit):
        monkeypatch.setattr(module, "recent_addresses", lambda *_: ["198.51.100.7", "2001:db8::1"])
    path, _ = new_key(harness)
    form = f"{path}/edit"
    page = alice.get(form).text
    assert "the key was used from 198.51.100.7, 2001:db8::1" in page
    fields = forms_of(page)[form].fields
    refused = alice.post(form, {**fields, "allowed_addresses": "192.0.2.0/24"})
    assert refused.status_code == 400
    assert "would reject every address from which the key was used" in refused.text
    assert "192.0.2.0/24" in refused.text
    saved = alice.post(form, {**fields, "allowed_addresses": "192.0.2.0/24", "save_anyway": "on"})
    assert saved.status_code == 303
    fields = forms_of(alice.get(form).text)[form].fields
    assert alice.post(form, {**fields, "allowed_addresses": "198.51.100.0/24"}).status_code == 303, "one is allowed"


def test_recent_addresses_are_those_of_the_recorded_calls(harness: AppHarness, alice: HubBrowser) -> None:
    path, secret = new_key(harness)
    assert "the key was used from" not in alice.get(f"{path}/edit").text
    assert harness.bearer(secret).get("/v1/me").status_code == 200
    assert harness.services.usage is not None
    harness.services.usage.flush()
    page = alice.get(f"{path}/edit").text
    assert "the key was used from 127.0.0.1" in page
    fields = forms_of(page)[f"{path}/edit"].fields
    refused = alice.post(f"{path}/edit", {**fields, "allowed_addresses": "192.0.2.0/24"})
    assert refused.status_code == 400
    assert "in the last 24 hours: 127.0.0.1" in refused.text


@pytest.mark.parametrize(
    ("recent", "words"),
    [([], "No request of the last 24 hours is recorded for this key."), (None, "not available")],
)
def test_form_reports_why_it_lists_no_recent_addresses(
    harness: AppHarness, alice: HubBrowser, monkeypatch: pytest.MonkeyPatch, recent: list[str] | None, words: str
) -> None:
    monkeypatch.setattr(edit, "recent_addresses", lambda *_: recent)
    path, _ = new_key(harness)
    page = alice.get(f"{path}/edit").text
    assert words in page
    assert "Before you restrict addresses" in page


def test_revoked_key_is_not_reported_as_in_use_when_several_are_selected(
    harness: AppHarness, alice: HubBrowser
) -> None:
    used = {"last_used_at": datetime.now(UTC)}
    paths = [new_key(harness, **used)[0], new_key(harness, **used)[0]]
    alice.get(f"{paths[0]}/revoke")
    assert alice.post(f"{paths[0]}/revoke", {"confirm": "test"}).status_code == 303
    query = "&".join(f"ids={path.rpartition('/')[2]}" for path in paths)
    assert "1 key was used in the last 24 hours" in alice.get(f"{KEYS}/bulk?action=pause&{query}").text


# Revocation


def test_key_in_use_is_revoked_only_with_its_name(harness: AppHarness, alice: HubBrowser) -> None:
    path, secret = new_key(harness, name="In use", last_used_at=datetime.now(UTC))
    page = alice.get(f"{path}/revoke{KEPT}").text
    assert "The key was used in the last 24 hours." in page
    for wrong in ({}, {"confirm": "in use"}):
        refused = alice.post(f"{path}/revoke", wrong)
        assert refused.status_code == 400
        assert 'id="confirm-problem"' in refused.text
        assert outcome(harness, secret) == ACCEPTED
    done = alice.post(f"{path}/revoke{KEPT}", {"confirm": " In use "})
    assert done.location == f"{KEYS}{KEPT}#key-{path.rpartition('/')[2]}"
    assert outcome(harness, secret) == (403, "revoked_credential")
    assert alice.post(f"{path}/revoke").status_code == 303, "can be repeated"
    page = alice.get(path).text
    assert not re.search(rf'(href|action)="{path}/(edit|rotate|revoke|pause|scopes)', page)


def test_key_that_is_not_in_use_is_revoked_without_its_name(harness: AppHarness, alice: HubBrowser) -> None:
    # It is not used here, because its use would be written in the background.
    secret = harness.new_key("acme", last_used_at=datetime.now(UTC) - timedelta(hours=25))
    record = harness.services.directory.read("acme")
    assert record is not None
    with harness.services.registry.reading(record.tenant) as session:
        path = f"{KEYS}/{session.scalar(text('SELECT id FROM api_keys ORDER BY created_at DESC LIMIT 1'))}"
    alice.get(f"{path}/revoke")
    assert alice.post(f"{path}/revoke").status_code == 303
    assert outcome(harness, secret) == (403, "revoked_credential")


# The page


def test_timeline_shows_events_with_receipts_to_managers_only(
    harness: AppHarness, alice: HubBrowser, bob: HubBrowser
) -> None:
    path, _ = new_key(harness, name="With events")
    alice.get(path)
    alice.post(f"{path}/pause")
    alice.get(path)
    alice.post(f"{path}/resume")
    rotated(alice, path)
    alice.get(path)
    alice.post(f"{path}/former-secret", {"ends_in": "0"})
    events = section(alice.get(path).text, "Timeline")
    found = re.findall(r"<b>([^<]+)</b> by (\w+)", events)
    assert [words.partition(" ")[0].rstrip(":") for words, _ in found] == [
        *("Former", "Rotated", "Resumed", "Paused", "Created")
    ]
    assert [actor.lower() for _, actor in found[:-1]] == ["alice"] * 4
    assert re.search(r"Former secret …\w{8} ended</b>[^\n]*workers confirmed after", events)
    page = bob.get(path).text
    assert "<h2>Timeline</h2>" not in page
    for form in ("rotate", "scopes", "edit", "revoke"):
        assert f"{path}/{form}" not in page
        assert bob.get(f"{path}/{form}").status_code == 403
        assert bob.post(f"{path}/{form}").status_code == 403


def test_event_of_an_earlier_release_is_shown(harness: AppHarness, alice: HubBrowser, hub: Hub, postgres: Any) -> None:
    assert hub
    path, _ = new_key(harness)
    ask(
        postgres,
        "INSERT INTO audit_events (id, actor, actor_name, action, target, detail) VALUES (gen_random_uuid(),"
        f" 'operator:cli', 'cli', 'api_key.renamed', '{path.rpartition('/')[2]}', '{{}}')",
        "acme",
    )
    assert "Renamed from “?” to “?”</b> by operator:cli" in section(alice.get(path).text, "Timeline")


def test_form_token_differs_in_every_response(alice: HubBrowser) -> None:
    """Pages are compressed, so a token that is repeated in several responses could be guessed from their length."""
    found = [re.findall(r'name="csrf" value="([^"]+)"', alice.get(f"{KEYS}/new").text) for _ in range(3)]
    assert all(len(page) >= 2 for page in found)
    assert len({token for page in found for token in page}) == len(found)
