"""Rate-limited requests: the error page, and submitting the form again."""

from __future__ import annotations

import re

import pytest

from kataven.dev.personas import ALICE
from kataven.ratelimit.budget import PER_MINUTE, AddressBudgetKind
from kataven.web.services import EXTENSION as SERVICES
from tests.hub.conftest import Hub
from tests.hub.forms import forms_of
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_sign_in import session_of
from tests.support.app_harness import Caller

EXPLAIN = "/settings/widget-keys/explain"


def exhaust_budget(hub: Hub, browser: HubBrowser, kind: AddressBudgetKind = AddressBudgetKind.HUB) -> None:
    """Exhaust the page budget of the browser's address, or the explain budget of its session, for this minute."""
    budget = hub.app.extensions[SERVICES].limiter.addresses
    whose = (
        session_of(hub, browser).handle
        if kind is AddressBudgetKind.HUB_TYPING
        else browser.client.environ_base["REMOTE_ADDR"]
    )
    for _ in range(2 * PER_MINUTE[kind]):
        if not budget.spend(whose, kind).admitted:
            return
    raise AssertionError("it is not used up")


def explained(browser: HubBrowser) -> int:
    """The status of an explain request, as the page's script sends it."""
    return browser.post(EXPLAIN, {"entries": "acme.com"}).status_code


@pytest.fixture
def refused(hub: Hub) -> HubBrowser:
    browser = hub.signed_in(ALICE)
    browser.get("/agents/new")
    exhaust_budget(hub, browser)
    return browser


def test_rate_limited_page_shows_when_to_reload(refused: HubBrowser) -> None:
    page = refused.get("/settings/api-keys?cursor=x")
    assert page.status_code == 429
    assert "<h1>Too many requests</h1>" in page.text
    seconds = page.headers["Retry-After"]
    assert re.search(rf"in {seconds} seconds?\b", page.text)
    assert '<a href="/settings/api-keys?cursor=x">Reload</a>' in page.text
    assert "Sign in" not in page.text
    elsewhere = refused.client.get("//evil.example/", base_url=refused.url)
    assert elsewhere.status_code == 429
    assert '"//evil.example' not in elsewhere.text


def test_rate_limited_form_can_be_submitted_again(hub: Hub, refused: HubBrowser, acme_key: Caller) -> None:
    form = {"name": "Refused once", "system_prompt": 'Line one.\r\n"Line" <two>.'}
    page = refused.post("/agents/new", form)
    assert page.status_code == 429
    again = forms_of(page.text)["/agents/new"]
    assert again.fields["system_prompt"].replace("\r\n", "\n") == 'Line one.\n"Line" <two>.'
    refused.client.environ_base["REMOTE_ADDR"] = "198.51.100.77"  # as if the minute had passed
    made = refused.client.post("/agents/new", base_url=refused.url, data=again.fields, headers={"Origin": refused.url})
    assert made.status_code == 303
    assert acme_key.get(f"/v1{made.location}").get_json()["name"] == "Refused once"


def test_rate_limited_form_of_another_session_is_not_repeated(hub: Hub, refused: HubBrowser) -> None:
    anonymous = hub.browser()
    anonymous.client.environ_base["REMOTE_ADDR"] = refused.client.environ_base["REMOTE_ADDR"]
    for browser, headers, csrf in (
        (anonymous, {}, refused.csrf),
        (refused, {"Origin": "https://evil.example"}, refused.csrf),
        (refused, {}, "made up"),
    ):
        page = browser.post("/agents/new", {"name": "Of another page", "csrf": csrf}, headers=headers)
        assert page.status_code == 429
        assert "Of another page" not in page.text


def test_explain_requests_do_not_use_the_page_budget(hub: Hub, refused: HubBrowser) -> None:
    assert explained(refused) == 200
    budget = hub.app.extensions[SERVICES].limiter.addresses
    browser = hub.signed_in(ALICE)
    address = browser.client.environ_base["REMOTE_ADDR"]
    browser.get("/settings/widget-keys")
    used = budget.spend(address, AddressBudgetKind.HUB).quota_statuses[0].used
    for _ in range(5):
        assert explained(browser) == 200
    assert budget.spend(address, AddressBudgetKind.HUB).quota_statuses[0].used <= used + 1


def test_explain_requests_have_a_budget_per_session(hub: Hub) -> None:
    browser, other = hub.signed_in(ALICE), hub.signed_in(ALICE)
    other.get("/settings/widget-keys")
    browser.get("/settings/widget-keys")
    assert explained(browser) == 200
    exhaust_budget(hub, browser, AddressBudgetKind.HUB_TYPING)
    assert explained(browser) == 429
    assert browser.get("/settings/widget-keys").status_code == 200
    assert explained(other) == 200


def test_explain_request_without_a_session_counts_for_the_address(hub: Hub) -> None:
    anonymous = hub.browser()
    anonymous.client.set_cookie(hub.services.cookie_name, "x" * 43, domain="localhost")
    assert explained(anonymous) == 303
    exhaust_budget(hub, anonymous)
    assert explained(anonymous) == 429
