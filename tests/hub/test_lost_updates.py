"""Forms that write a whole object, open in two tabs: the second tab never overwrites the first one unnoticed."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.hub.conftest import Hub
from tests.hub.forms import Form, forms_of
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_agents import create
from tests.support.app_harness import AppHarness, Caller, new_account


def open_form(browser: HubBrowser, page: str, action: str | None = None) -> Form:
    """A form in a separate tab, which doesn't change when other tabs are used."""
    return forms_of(browser.get(page).text)[action or page]


def send(browser: HubBrowser, form: Form, changes: dict[str, str]) -> TestResponse:
    return browser.client.post(
        form.action, base_url=browser.url, data={**form.fields, **changes}, headers={"Origin": browser.url}
    )


def agent_of(caller: Caller, path: str) -> dict[str, Any]:
    found: dict[str, Any] = caller.get(f"/v1{path}").get_json()
    return found


def test_second_tab_sees_the_values_that_the_first_tab_saved(alice: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="In two tabs")
    first, second = open_form(alice, path), open_form(alice, path)
    assert send(alice, first, {"description": "From the first tab"}).status_code == 303
    page = send(alice, second, {"greeting_message": "From the second tab"})
    assert page.status_code == 409
    assert "From the first tab" in page.text
    agent = agent_of(acme_key, path)
    assert (agent["description"], agent["greeting_message"]) == ("From the first tab", "Hello!")
    # The second tab didn't change the description, so the saved value is preselected. The greeting is included.
    choice = forms_of(page.text)[path]
    assert choice.offered == {"description": ["From the first tab", ""]}
    assert choice.fields["description"] == "From the first tab"
    assert send(alice, choice, {}).status_code == 303
    agent = agent_of(acme_key, path)
    assert (agent["description"], agent["greeting_message"]) == ("From the first tab", "From the second tab")


def test_user_chooses_between_two_changes_of_one_field(alice: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="One field, two tabs")
    first, second = open_form(alice, path), open_form(alice, path)
    send(alice, first, {"system_prompt": '\r\nOne.\r\n"Two" & <three>.', "widget_enabled": "on"})
    choice = forms_of(send(alice, second, {"system_prompt": "Mine."}).text)[path]
    assert choice.offered == {"system_prompt": ['\nOne.\n"Two" & <three>.', "Mine."]}
    assert "system_prompt" not in choice.fields  # no value is preselected
    page = send(alice, choice, {})
    assert page.status_code == 400
    assert "system_prompt" in page.text
    assert agent_of(acme_key, path)["system_prompt"].startswith("\nOne.")
    assert send(alice, choice, {"system_prompt": "Mine."}).status_code == 303
    assert agent_of(acme_key, path)["system_prompt"] == "Mine."


def test_checkbox_unchecked_elsewhere_can_stay_unchecked(alice: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="A box in two tabs", ringing_enabled="on")
    first, second = open_form(alice, path), open_form(alice, path)
    del first.fields["ringing_enabled"]
    send(alice, first, {})
    choice = forms_of(send(alice, second, {"name": "Renamed"}).text)[path]
    assert choice.offered == {"ringing_enabled": ["", "on"]}
    assert choice.fields["ringing_enabled"] == ""
    send(alice, choice, {})
    agent = agent_of(acme_key, path)
    assert (agent["name"], agent["ringing_enabled"]) == ("Renamed", False)


def test_resolved_conflict_is_checked_again(alice: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="Three tabs")
    first, second, third = (open_form(alice, path) for _ in range(3))
    send(alice, first, {"description": "First"})
    choice = forms_of(send(alice, second, {"description": "Second"}).text)[path]
    again = forms_of(send(alice, third, {"description": "Third"}).text)[path]
    assert send(alice, again, {"description": "Third"}).status_code == 303
    assert send(alice, choice, {"description": "Second"}).status_code == 409
    assert agent_of(acme_key, path)["description"] == "Third"


def test_corrected_form_keeps_its_original_digests(alice: HubBrowser, acme_key: Caller) -> None:
    path = create(alice, name="Corrected")
    first, second = open_form(alice, path), open_form(alice, path)
    send(alice, first, {"description": "From the first tab"})
    page = send(alice, second, {"name": ""})
    assert page.status_code == 400
    assert send(alice, forms_of(page.text)[path], {"name": "Corrected"}).status_code == 409
    assert agent_of(acme_key, path)["description"] == "From the first tab"


def test_identical_values_are_no_conflict(alice: HubBrowser) -> None:
    """A form that is submitted twice."""
    path = create(alice, name="Sent twice")
    form = open_form(alice, path)
    for _ in range(2):
        assert send(alice, form, {"description": "The same", "background_audio_volume": "0.50"}).status_code == 303


@pytest.mark.parametrize("seen", [None, "", "x", "name~AAAA", "~.~~", "name" * 5_000], ids=lambda seen: str(seen)[:9])
def test_form_without_valid_digests_overwrites_nothing(alice: HubBrowser, acme_key: Caller, seen: str | None) -> None:
    path = create(alice, name="Of another release")
    form = open_form(alice, path)
    del form.fields["seen"]
    changes = {"name": "Overwritten"} if seen is None else {"name": "Overwritten", "seen": seen}
    assert send(alice, form, changes).status_code == 409
    assert agent_of(acme_key, path)["name"] == "Of another release"


def test_concurrent_edits_of_allowed_domains_are_not_lost(alice: HubBrowser) -> None:
    alice.get("/settings/widget-keys")
    made = alice.post("/settings/widget-keys", {"name": "In two tabs", "domain_allowlist": "acme.com", "agent_id": ""})
    path = made.text.partition('class="button" href="')[2].partition('"')[0]
    first, second = open_form(alice, path), open_form(alice, path)
    assert send(alice, first, {"domain_allowlist": "acme.com\r\nshop.acme.com"}).status_code == 303
    page = send(alice, second, {"name": "Renamed"})
    assert page.status_code == 409
    choice = forms_of(page.text)[path]
    assert choice.offered == {"domain_allowlist": ["acme.com\nshop.acme.com", "acme.com"]}
    assert send(alice, choice, {}).status_code == 303
    saved = open_form(alice, path).fields
    assert (saved["name"], saved["domain_allowlist"]) == ("Renamed", "acme.com\nshop.acme.com")


def test_chosen_agent_takes_precedence_on_the_conflict_page(alice: HubBrowser) -> None:
    agents = [create(alice, name=f"Pinned in tab {number}").rpartition("/")[2] for number in (1, 2)]
    alice.get("/settings/widget-keys")
    made = alice.post("/settings/widget-keys", {"name": "Pinned", "domain_allowlist": "acme.com", "agent_id": ""})
    path = made.text.partition('class="button" href="')[2].partition('"')[0]
    first, second = open_form(alice, path), open_form(alice, path)
    assert send(alice, first, {"agent": "Pinned in tab 1"}).status_code == 303
    choice = forms_of(send(alice, second, {"agent": "Pinned in tab 2"}).text)[path]
    assert choice.offered == {"agent_id": agents}
    assert send(alice, choice, {"agent_id": agents[0]}).status_code == 303
    assert open_form(alice, path).fields["agent_id"] == agents[0]


def test_concurrent_edits_of_the_widget_are_not_lost(charlie: HubBrowser) -> None:
    first, second = open_form(charlie, "/widget"), open_form(charlie, "/widget")
    assert send(charlie, first, {"title": "First tab"}).status_code == 303
    page = send(charlie, second, {"theme": "dark"})
    assert page.status_code == 409
    send(charlie, forms_of(page.text)["/widget"], {})
    saved = open_form(charlie, "/widget").fields
    assert (saved["title"], saved["theme"]) == ("First tab", "dark")


def test_concurrent_edits_of_limits_and_policy_are_not_lost(hub: Hub, harness: AppHarness, olivia: HubBrowser) -> None:
    new_account(harness.services, "two-operators")
    page = "/console/accounts/two-operators"
    first, second = (open_form(olivia, page, f"{page}/limits") for _ in range(2))
    assert send(olivia, first, {"per_day": "2777777"}).status_code == 303
    response = send(olivia, second, {"concurrent": "7"})
    assert response.status_code == 409
    assert send(olivia, forms_of(response.text)[f"{page}/limits"], {}).status_code == 303
    saved = open_form(olivia, page, f"{page}/limits").fields
    assert (saved["per_day"], saved["concurrent"]) == ("2777777", "7")

    first, second = (open_form(olivia, page, f"{page}/policy") for _ in range(2))
    assert send(olivia, first, {"max_days": "30"}).status_code == 303
    response = send(olivia, second, {"max_days": "90", "existing": "on"})
    assert response.status_code == 409
    assert forms_of(response.text)[f"{page}/policy"].hidden["existing"] == "on"
    assert open_form(olivia, page, f"{page}/policy").fields["max_days"] == "30"
    assert send(olivia, forms_of(response.text)[f"{page}/policy"], {"max_days": "90"}).status_code == 303
    assert open_form(olivia, page, f"{page}/policy").fields["max_days"] == "90"
