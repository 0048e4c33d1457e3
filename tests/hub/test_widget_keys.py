"""Widget keys and branding in the Hub."""

from __future__ import annotations

import re

import pytest

from tests.hub.hub_browser import HubBrowser
from tests.hub.test_agents import create as create_agent
from tests.support.app_harness import AppHarness, Caller

KEYS = "/settings/widget-keys"
KEY = re.compile(r"pk_live_acme_[0-9A-Za-z]{49}")


def create(browser: HubBrowser, name: str, pages: str = "shop.example", **form: str) -> tuple[str, str]:
    """Create a widget key. Returns the key and its page."""
    browser.get(KEYS)
    page = browser.post(KEYS, {"name": name, "domain_allowlist": pages, **form})
    assert page.status_code == 201, page.text
    found, place = KEY.search(page.text), re.search(rf"{KEYS}/[0-9a-f-]{{36}}", page.text)
    assert found
    assert place
    return found[0], place[0]


def config(harness: AppHarness, key: str, origin: str, agent: str) -> int:
    """The status of the widget's configuration for a page at `origin`."""
    path = f"/v1/widget/config?client_key={key}&agent_id={agent.removeprefix('/agents/')}"
    return harness.caller(Origin=origin).get(path).status_code


def test_created_widget_key_works_on_its_allowed_domains(harness: AppHarness, alice: HubBrowser) -> None:
    agent = create_agent(alice, name="On pages")
    key, place = create(alice, "Shop", "Shop.Example\r\n\r\n*.acme.example\r\nshop.example")
    assert config(harness, key, "https://shop.example", agent) == 200
    assert config(harness, key, "https://deep.www.acme.example", agent) == 200
    assert config(harness, key, "https://evil.example", agent) == 403
    page = alice.get(place).text
    assert f"data-client-key=&#34;{key}&#34;" in page
    assert "shop.example over https" in page
    assert "all subdomains of acme.example, but not acme.example itself over https" in page


def test_script_tag_is_shown_once(alice: HubBrowser) -> None:
    alice.get(KEYS)
    form = {"name": "Reloaded widget", "domain_allowlist": "shop.example"}
    first, again = alice.post(KEYS, form), alice.post(KEYS, form)
    assert (first.status_code, again.status_code) == (201, 409)
    assert "&lt;script src=" in first.text
    assert not KEY.search(again.text)
    assert alice.get(KEYS).text.count(">Reloaded widget</a>") == 1


@pytest.mark.parametrize(
    ("form", "field", "words"),
    [
        ({"name": ""}, "name", "Enter a name"),
        ({"domain_allowlist": "good.example\nhttp://bad.example"}, "domain_allowlist", "Allowed domains, line 2: "),
        ({"domain_allowlist": "https://user@bad.example"}, "domain_allowlist", "user name"),
        ({"agent_id": "not-an-id"}, "agent_id", "Choose an agent"),
        ({"agent_id": "00000000-0000-4000-8000-000000000000"}, "agent_id", "Choose an agent"),
    ],
)
def test_invalid_widget_key_form_shows_errors(alice: HubBrowser, form: dict[str, str], field: str, words: str) -> None:
    alice.get(KEYS)
    page = alice.post(KEYS, {"name": "Wrong", "domain_allowlist": "good.example", **form})
    assert page.status_code == 400
    assert words in page.text[page.text.index(f'id="{field}-problem"') :][:200]
    assert not KEY.search(page.text)


def test_explain_endpoint_explains_each_entry(bob: HubBrowser) -> None:
    bob.get(KEYS)
    lines = bob.post(f"{KEYS}/explain", {"entries": "acme.com\n\nlocalhost:*\nhttp://acme.com"}).get_json()
    assert [line["good"] for line in lines] == [True, True, False]
    assert lines[1]["words"] == "localhost on any port over http or https"
    longest = "\n".join(f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 50}-{number:02}.example" for number in range(100))
    assert len(bob.post(f"{KEYS}/explain", {"entries": longest}).get_json()) == 100
    assert bob.post(f"{KEYS}/explain", {"entries": "a\n" * 10_000}).status_code == 200


def test_restricting_disabling_and_deleting_show_a_receipt(
    harness: AppHarness, alice: HubBrowser, acme_key: Caller
) -> None:
    agent = create_agent(alice, name="Pinned")
    key, place = create(alice, "To lose pages", "one.example\ntwo.example")
    assert config(harness, key, "https://two.example", agent) == 200

    form = {"name": "To lose pages", "domain_allowlist": "one.example", "agent_id": agent.removeprefix("/agents/")}
    alice.get(place)
    assert alice.post(place, form).location == place
    assert "Saved “To lose pages”: applied on" in alice.get(place).text
    assert config(harness, key, "https://two.example", agent) == 403

    assert alice.post(f"{place}/disable").location == place
    assert "Disabled “To lose pages”: " in alice.get(place).text
    assert config(harness, key, "https://one.example", agent) == 403
    assert alice.post(f"{place}/enable").location == place
    assert config(harness, key, "https://one.example", agent) == 200

    assert alice.post(f"{place}/remove").location == KEYS
    assert "Deleted “To lose pages”: " in alice.get(KEYS).text
    assert config(harness, key, "https://one.example", agent) != 200
    assert alice.get(place).status_code == 404


def test_members_can_view_widget_keys_and_other_accounts_cannot(
    alice: HubBrowser, bob: HubBrowser, charlie: HubBrowser
) -> None:
    _, place = create(alice, "Seen by members")
    assert "Seen by members" in bob.get(KEYS).text
    for attempt in (KEYS, place, f"{place}/disable", f"{place}/enable", f"{place}/remove", "/widget"):
        assert bob.post(attempt, {"name": "x"}).status_code == 403
    assert "Seen by members" not in charlie.get(KEYS).text
    for attempt in (place, f"{place}/disable", f"{place}/remove"):
        assert charlie.post(attempt, {"name": "x"}).status_code == 404


def test_branding_is_saved_and_returned_by_the_api(charlie: HubBrowser, harness: AppHarness) -> None:
    api = harness.bearer(harness.new_key("globex"))
    form = {
        "title": "Ask Globex",
        "launcher_label": "",
        "accent_color": "#A81C25",
        "logo_url": "https://globex.example/logo.svg",
        "position": "bottom-left",
        "theme": "dark",
    }
    charlie.get("/widget")
    assert charlie.post("/widget", form).location == "/widget"
    settings = api.get("/v1/widget-settings").get_json()
    assert settings == {**form, "launcher_label": None, "accent_color": "#a81c25"}
    assert 'fill="#a81c25"' in charlie.get("/widget").text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"accent_color": "red"}, "accent_color"),
        ({"logo_url": "http://globex.example/logo.svg"}, "logo_url"),
        ({"logo_url": "javascript:alert(1)"}, "logo_url"),
        ({"position": "everywhere"}, "position"),
        ({"title": "x" * 61}, "title"),
    ],
)
def test_invalid_branding_shows_errors(alice: HubBrowser, changes: dict[str, str], field: str) -> None:
    alice.get("/widget")
    form = {"accent_color": "#123456", "position": "bottom-right", "theme": "auto", "title": "", **changes}
    page = alice.post("/widget", form)
    assert page.status_code == 400
    assert f'id="{field}-problem"' in page.text
