"""Agents in the Hub: creating, editing and deleting, with the validation of the API."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import Caller

FORM = {
    "name": "Front desk",
    "description": "",
    "category": "customer_support",
    "status": "active",
    "system_prompt": "Be kind.\r\nBe brief.",
    "greeting_message": "Hello!",
    "greeting_mode": "locked",
    "llm_model": "gpt-4o",
    "voice_provider": "deepgram",
    "voice_id": "",
    "auth_mode": "public",
    "background_audio_volume": "0.25",
    "ringing_enabled": "on",
    "widget_enabled": "on",
    "widget_auth_mode": "both",
}


def create(browser: HubBrowser, **changes: str) -> str:
    """Create an agent. Returns its path."""
    browser.get("/agents/new")
    made = browser.post("/agents/new", {**FORM, **changes})
    assert made.status_code == 303, made.text
    assert made.location
    return made.location


def through_the_api(caller: Caller, path: str) -> dict[str, Any]:
    agent: dict[str, Any] = caller.get(f"/v1{path}").get_json()
    return agent


def test_created_agent_has_the_submitted_values(alice: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="Made in the Hub")
    agent = through_the_api(acme_key, path)
    assert (agent["name"], agent["description"], agent["voice_id"]) == ("Made in the Hub", None, None)
    assert agent["system_prompt"] == "Be kind.\nBe brief."
    assert agent["background_audio_volume"] == 0.25
    assert (agent["ringing_enabled"], agent["noise_suppression_enabled"]) == (True, False)
    settings = acme_key.get(f"/v1{path}/widget-settings").get_json()
    assert settings == {"widget_enabled": True, "auth_mode": "both"}
    assert agent["created_by"] == "jwt:alice"


def test_editing_an_agent_saves_changed_fields_and_keeps_the_others(alice: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="To be changed")
    alice.get(path)
    assert alice.post(path, {**FORM, "name": "Changed", "status": "paused"}).location == path
    agent = through_the_api(acme_key, path)
    assert (agent["name"], agent["status"], agent["greeting_mode"]) == ("Changed", "paused", "locked")
    assert "Saved “Changed”." in alice.get(path).text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"category": "espionage"}, "category"),
        ({"background_audio_volume": "loud"}, "background_audio_volume"),
        ({"background_audio_volume": "1.5"}, "background_audio_volume"),
        ({"background_audio_volume": "nan"}, "background_audio_volume"),
        ({"llm_model": ""}, "llm_model"),
        ({"system_prompt": "x" * 100_001}, "system_prompt"),
    ],
    ids=["no name", "long name", "category", "words", "too loud", "nan", "no model", "long prompt"],
)
def test_invalid_agent_form_shows_errors_and_keeps_the_entered_values(
    alice: HubBrowser, changes: dict[str, str], field: str
) -> None:
    alice.get("/agents/new")
    page = alice.post("/agents/new", {**FORM, "greeting_message": "Typed with care", **changes})
    assert page.status_code == 400
    assert f'id="{field}-problem"' in page.text
    assert "Typed with care" in page.text


def test_deleted_agent_returns_404(alice: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="To be deleted")
    alice.get(path)
    assert alice.post(f"{path}/delete").location == "/agents"
    assert acme_key.get(f"/v1{path}").status_code == 404
    assert alice.get(path).status_code == 404


def test_members_can_view_but_not_change_agents(alice: HubBrowser, bob: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="Seen by Bob")
    page = bob.get(path).text
    assert "Seen by Bob" in page
    assert "<button>Save" not in page
    for attempt in (path, f"{path}/delete", "/agents/new"):
        assert bob.post(attempt, FORM).status_code == 403
    assert bob.get("/agents/new").status_code == 403
    assert through_the_api(acme_key, path)["name"] == "Seen by Bob"


def test_agents_of_another_account_return_404(alice: HubBrowser, charlie: HubBrowser) -> None:
    path = create(alice, name="Of acme alone")
    assert charlie.get(path).status_code == 404
    assert charlie.post(path, FORM).status_code == 404
    assert charlie.post(f"{path}/delete").status_code == 404
    assert "Of acme alone" not in charlie.get("/agents").text
    assert re.search(r'<a href="/agents/[0-9a-f-]{36}"><bdi>Of acme alone', alice.get("/agents").text)
