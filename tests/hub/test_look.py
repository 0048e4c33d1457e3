"""What all pages share: the theme, icons, navigation and breadcrumbs."""

from __future__ import annotations

import re

import pytest

from kataven.hub.pages_app import STATIC
from tests.hub.hub_browser import HubBrowser


def theme_of(page: str) -> str | None:
    found = re.search(r"<html[^>]* data-theme=\"(\w+)\"", page)
    return found[1] if found else None


def test_theme_is_kept_in_a_cookie_of_the_browser(alice: HubBrowser) -> None:
    assert theme_of(alice.get("/agents").text) is None
    response = alice.post("/theme", {"theme": "dark"})
    assert (response.status_code, response.location) == (303, "/agents")
    assert theme_of(alice.get("/agents").text) == "dark"
    assert theme_of(alice.get("/signed-out").text) == "dark"
    alice.post("/theme", {"theme": "system"})
    assert theme_of(alice.get("/agents").text) is None


@pytest.mark.parametrize("value", ["", "blue", 'dark" onload="x', "system"])
def test_unknown_themes_are_those_of_the_system(alice: HubBrowser, value: str) -> None:
    alice.get("/")
    alice.post("/theme", {"theme": value})
    assert theme_of(alice.get("/").text) is None
    alice.client.set_cookie("kataven-theme", value, domain="localhost")
    assert theme_of(alice.get("/").text) is None


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example", "/\\evil.example", ""])
def test_theme_form_redirects_to_the_hub_only(alice: HubBrowser, path: str) -> None:
    alice.get("/")
    assert alice.post("/theme", {"theme": "dark", "next": path}).location == "/"


def test_every_icon_that_a_page_uses_exists(alice: HubBrowser, olivia: HubBrowser) -> None:
    drawn = set(re.findall(r'<symbol id="(\w+)"', (STATIC / "icons.svg").read_text("utf-8")))
    used = re.findall(r'icons.svg[^"]*#(\w+)"', alice.get("/").text + olivia.get("/console").text)
    assert len(used) > 15
    assert set(used) <= drawn


def test_pages_request_no_icon_for_the_tab(alice: HubBrowser) -> None:
    assert 'rel="icon" href="data:image/svg+xml,%3Csvg' in alice.get("/").text


@pytest.mark.parametrize(
    ("page", "above"),
    [
        ("/agents/new", ["/agents"]),
        ("/settings/api-keys/new", ["/settings/api-keys"]),
        ("/console/accounts/acme", ["/console"]),
        ("/console/accounts/acme/keys", ["/console", "/console/accounts/acme"]),
        ("/console/accounts/acme/people", ["/console", "/console/accounts/acme"]),
    ],
)
def test_pages_below_a_list_have_breadcrumbs(
    alice: HubBrowser, olivia: HubBrowser, page: str, above: list[str]
) -> None:
    html = (olivia if page.startswith("/console") else alice).get(page).text
    crumbs = html.partition('aria-label="Breadcrumb"')[2].partition("</nav>")[0]
    assert re.findall(r'href="([^"]+)"', crumbs) == above
