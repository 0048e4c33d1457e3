"""Pages that refresh parts of themselves with htmx, and what such a request costs and changes."""

from __future__ import annotations

import hashlib
import html
import json
import re
from typing import Any

import pytest
import redis

from kataven.hub.pages_app import STATIC
from kataven.hub.sessions import IDLE_SECONDS
from kataven.ratelimit.budget import AddressBudget, AddressBudgetKind
from tests.hub.conftest import Hub
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness

HTMX = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
"""SHA-256 of dist/htmx.min.js in htmx.org 2.0.11."""
LIVE = {"HX-Request": "true"}


def test_htmx_is_the_published_release() -> None:
    assert hashlib.sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest() == HTMX
    assert "2.0.11" in (STATIC / "NOTICE.txt").read_text("utf-8")


def test_htmx_is_configured_for_the_content_security_policy(alice: HubBrowser) -> None:
    found = re.search(r"name=\"htmx-config\" content='([^']+)'", alice.get("/").text)
    assert found is not None
    configured = json.loads(found[1])
    assert not configured["allowEval"]
    assert not configured["allowScriptTags"]
    assert not configured["includeIndicatorStyles"]
    assert configured["historyCacheSize"] == 0, "htmx would store pages in the browser"


def test_live_update_does_not_keep_a_session_alive(hub: Hub, alice: HubBrowser, harness: AppHarness) -> None:
    with redis.Redis.from_url(harness.environ["KATAVEN_REDIS_URL"]) as client:
        mine = [name for name in client.scan_iter("*hub:session:*") if client.ttl(name) > IDLE_SECONDS - 60]
        for name in mine:
            client.expire(name, 100)
        assert alice.get("/", headers=LIVE).status_code == 200
        assert max(client.ttl(name) for name in mine) <= 100
        assert alice.get("/").status_code == 200
        assert max(client.ttl(name) for name in mine) > 100


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[AddressBudgetKind]:
    """The budgets from which requests were taken, in order."""
    kinds: list[AddressBudgetKind] = []
    spend = AddressBudget.spend

    def recording(self: AddressBudget, key: str, kind: AddressBudgetKind, *more: Any) -> Any:
        kinds.append(kind)
        return spend(self, key, kind, *more)

    monkeypatch.setattr(AddressBudget, "spend", recording)
    return kinds


def test_live_updates_do_not_use_up_the_budget_of_an_address(alice: HubBrowser, spent: list[AddressBudgetKind]) -> None:
    """A page that is refreshed every five seconds in each tab of an office must not lock the office out."""
    assert alice.get("/", headers=LIVE).status_code == 200
    assert spent == [AddressBudgetKind.HUB_TYPING]
    assert alice.get("/").status_code == 200
    assert spent == [AddressBudgetKind.HUB_TYPING, AddressBudgetKind.HUB]


def test_live_updates_without_a_session_count_toward_the_address(hub: Hub, spent: list[AddressBudgetKind]) -> None:
    assert hub.browser().get("/", headers=LIVE).status_code == 204
    assert spent == [AddressBudgetKind.HUB]


def test_live_update_after_the_session_ended_reloads_the_page(hub: Hub) -> None:
    response = hub.browser().get("/agents", headers=LIVE)
    assert (response.status_code, response.headers["HX-Refresh"], response.data) == (204, "true", b"")


def test_live_update_from_another_address_is_in_the_list_of_sessions(hub: Hub, alice: HubBrowser) -> None:
    """Otherwise a stolen cookie could be used with this header, and its user would not see it."""
    alice.get("/")
    own = alice.client.environ_base["REMOTE_ADDR"]
    thief = {"environ_base": {"REMOTE_ADDR": "203.0.113.66"}, "headers": LIVE}
    assert alice.get("/agents", **thief).status_code == 200
    assert "203.0.113.66" in alice.get("/sessions", **thief).text
    assert own in alice.get("/sessions").text


def test_live_update_after_a_switch_of_the_account_reloads_the_page(alice: HubBrowser) -> None:
    """Otherwise a page of one account would show the rows of another one."""
    found = re.search(r'hx-get="([^"]+)"', alice.get("/requests").text)
    assert found is not None
    path = html.unescape(found[1])
    assert alice.get(path, headers=LIVE).headers.get("HX-Refresh") is None
    other = alice.get(path.replace("account=acme", "account=globex"), headers=LIVE)
    assert (other.status_code, other.headers.get("HX-Refresh"), other.data) == (204, "true", b"")


def test_navigation_lists_existing_pages_only(hub: Hub, alice: HubBrowser, olivia: HubBrowser) -> None:
    paths = {rule.rule for rule in hub.pages.url_map.iter_rules() if "GET" in (rule.methods or ())}
    for browser, page in ((alice, "/"), (olivia, "/console")):
        links = set(re.findall(r'<li><a href="([^"]+)"', browser.get(page).text.partition("<main")[0]))
        assert links
        assert links <= paths
