"""The Hub's list of API keys: search, chips with counts, order, pages, and changes of several keys."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kataven.hub.pages.api_keys import key_list
from kataven.operations import account_status
from kataven.operations.operator import Operator
from tests.hub.conftest import Hub
from tests.hub.forms import forms_of
from tests.hub.hub_browser import HubBrowser
from tests.hub.test_lists import link, names
from tests.support.app_harness import AppHarness

KEYS = "/settings/api-keys"
BULK = f"{KEYS}/bulk"
ACCOUNT = "globex"
NOW = datetime.now(UTC)
MARK = "kl-"


@pytest.fixture(scope="module")
def keys(harness: AppHarness) -> dict[str, str]:
    """One key of each kind in globex. Returns the secrets by name."""
    days = timedelta(days=1)
    rows: dict[str, dict[str, Any]] = {
        "used": {"last_used_at": NOW, "scopes": ["agents:write"], "expires_at": NOW + 60 * days},
        "never used": {"scopes": ["agents:read"], "expires_at": NOW + 50 * days},
        "idle": {"created_at": NOW - 200 * days, "last_used_at": NOW - 91 * days, "rotated_at": NOW - 2 * days},
        "expires in 1": {"expires_at": NOW + 0.5 * days, "last_used_at": NOW - 2 * days},
        "expires in 3": {"expires_at": NOW + 2 * days, "last_used_at": NOW - 3 * days},
        "expires in 14": {"expires_at": NOW + 10 * days, "last_used_at": NOW - 4 * days},
        "old secret": {"created_at": NOW - 100 * days, "last_used_at": NOW - 5 * days, "scopes": ["agents:read"]},
        "browser": {"browser_use_at": NOW, "last_used_at": NOW - 6 * days, "scopes": ["agents:read"]},
        "allowed browser": {"browser_use_at": NOW, "from_browsers": True, "last_used_at": NOW - 7 * days},
        "paused": {"paused_at": NOW, "last_used_at": NOW - 8 * days},
        "later": {"not_before": NOW + 9 * days, "scopes": ["agents:read"]},
        "expired": {"expires_at": NOW - days, "last_used_at": NOW - 9 * days},
        "revoked": {"disabled_at": NOW, "last_used_at": NOW - 10 * days},
    }
    secrets = {name: harness.new_key(ACCOUNT, name=f"{MARK}{name}", **columns) for name, columns in rows.items()}
    account_status.change_rotation_policy(Operator("test", harness.services), ACCOUNT, 90)
    return secrets


def shown(browser: HubBrowser, **query: str) -> list[str]:
    page = browser.get(KEYS, query_string={"q": MARK, **query})
    assert page.status_code == 200
    return [name.removeprefix(MARK) for name in names(page.text)]


def counts(page: str) -> dict[str, int]:
    found = re.findall(r'<li><a href="[^"]+"[^>]*>([^<]+) <span class="count">([\d,]+)</span>', page)
    return {label: int(count.replace(",", "")) for label, count in found}


EXPECTED = {
    "active": [
        *("used", "never used", "idle", "expires in 1", "expires in 3", "expires in 14"),
        *("old secret", "browser", "allowed browser"),
    ],
    "paused": ["paused"],
    "not_yet_valid": ["later"],
    "expired": ["expired"],
    "revoked": ["revoked"],
    "never_used": ["never used", "later"],
    "idle": ["idle"],
    "never_expires": ["idle", "old secret", "browser", "allowed browser", "paused", "later"],
    "expires_soon": ["expires in 1", "expires in 3", "expires in 14"],
    "full_access": ["idle", "expires in 1", "expires in 3", "expires in 14", "allowed browser", "paused"],
    "browser_use": ["browser"],
    "rotation_due": ["old secret"],
}


@pytest.mark.parametrize("show", EXPECTED)
def test_chip_shows_as_many_keys_as_it_counts(keys: dict[str, str], charlie: HubBrowser, show: str) -> None:
    assert keys
    assert sorted(shown(charlie, show=show)) == sorted(EXPECTED[show])
    labels = {str(group): label for group, label in key_list.CHIPS if group is not None}
    page = charlie.get(KEYS, query_string={"q": MARK}).text
    assert counts(page)[labels[show]] == len(EXPECTED[show])
    assert counts(page)["All"] == len(keys)
    assert f'aria-current="true">{labels[show]} ' in charlie.get(KEYS, query_string={"q": MARK, "show": show}).text


@pytest.mark.parametrize(
    ("sort", "first", "last"),
    [
        ("name", "allowed browser", "used"),
        ("-name", "used", "allowed browser"),
        ("-used", "used", None),
        ("used", None, "used"),
        ("expires", "expired", None),
        ("created", "idle", None),
        ("-created", None, "idle"),
    ],
)
def test_order_is_the_same_over_all_pages(
    keys: dict[str, str],
    charlie: HubBrowser,
    monkeypatch: pytest.MonkeyPatch,
    sort: str,
    first: str | None,
    last: str | None,
) -> None:
    whole = shown(charlie, sort=sort)
    assert sorted(whole) == sorted(keys)
    assert first is None or whole[0] == first
    assert last is None or whole[-1] == last
    monkeypatch.setattr(key_list, "PAGE_SIZE", 3)
    page, pages = charlie.get(KEYS, query_string={"q": MARK, "sort": sort}).text, []
    while True:
        pages.append([name.removeprefix(MARK) for name in names(page)])
        before = sum(map(len, pages[:-1]))
        assert f"{before + 1} to {before + len(pages[-1])} of {len(keys)}" in page
        if 'rel="next"' not in page:
            break
        page = charlie.get(link(page, "next")).text
    assert [name for one in pages for name in one] == whole
    for expected in reversed(pages[:-1]):
        page = charlie.get(link(page, "prev")).text
        assert [name.removeprefix(MARK) for name in names(page)] == expected
    assert 'rel="prev"' not in page


def test_heading_sorts_and_reverses(keys: dict[str, str], charlie: HubBrowser) -> None:
    assert keys
    page = charlie.get(f"{KEYS}?q={MARK}").text
    assert 'aria-sort="descending"><a' in page
    found = re.search(r'<a href="([^"]+)">Key</a>', page)
    assert found
    page = charlie.get(html.unescape(found[1])).text
    assert re.search(r'aria-sort="ascending"><a href="[^"]+sort=-name[^"]*">Key', page)


@pytest.mark.parametrize(
    "query",
    [
        "show=everything",
        "sort=secret",
        "cursor=x",
        "cursor=00000000-0000-4000-8000-000000000000~",
        "cursor=00000000-0000-4000-8000-000000000000~99999999999999999999",
        "newer=00000000-0000-4000-8000-000000000000~-1",
        "sort=name&cursor=00000000-0000-4000-8000-000000000000~%00",
        "sort=used&newer=00000000-0000-4000-8000-000000000000~",
        "q=%00",
        "q=" + "x" * 400,
    ],
)
def test_invalid_parameters_are_ignored(charlie: HubBrowser, query: str) -> None:
    assert charlie.get(f"{KEYS}?{query}").status_code == 200


def test_expiry_is_announced_once_per_key(keys: dict[str, str], charlie: HubBrowser) -> None:
    assert keys
    page = charlie.get(f"{KEYS}?q={MARK}").text
    assert "1 key expires within 1 day; 1 key expires within 3 days; 1 key expires within 14 days." in page
    assert re.search(r'class="tag failed">expires in 12 hours|class="tag failed">expires in 11 hours', page)
    assert "expires_soon" in page


# Changes of several keys


def selected(browser: HubBrowser, action: str, *key_ids: str) -> str:
    """The page that asks."""
    page = browser.get(BULK, query_string={"action": action, "ids": list(key_ids), "q": MARK})
    assert page.status_code == 200
    return page.text


def send(browser: HubBrowser, page: str, **fields: str) -> Any:
    (form,) = [form for action, form in forms_of(page).items() if action.startswith(BULK)]
    return browser.post(html.unescape(form.action), {**form.fields, **fields})


def ids_of(harness: AppHarness, *secrets: str) -> list[str]:
    return [harness.bearer(secret).get("/v1/me").get_json()["credential"]["id"] for secret in secrets]


def test_several_keys_are_paused_resumed_and_revoked_with_one_receipt(
    hub: Hub, harness: AppHarness, charlie: HubBrowser
) -> None:
    secrets = [harness.new_key(ACCOUNT, name=f"bulk {number}") for number in range(3)]
    ids = ids_of(harness, *secrets)
    for action, code in (("pause", "paused_credential"), ("resume", None), ("revoke", "revoked_credential")):
        page = selected(charlie, action, *ids)
        assert f"{action.capitalize()} 3 keys?" in page
        form = {"confirm": "revoke"} if "Confirmation" in page else {}
        back = send(charlie, page, **form).location
        assert back == f"{KEYS}?q={MARK}#key-{ids[0]}"
        notice = charlie.get(back.partition("#")[0]).text
        assert re.search(rf"{action.capitalize()}d 3 keys: (applied on )?\d+ of \d+ workers", notice), notice
        for secret in secrets:
            assert harness.bearer(secret).get("/v1/me").get_json().get("code") == code


def test_revoking_used_keys_needs_a_word(harness: AppHarness, charlie: HubBrowser) -> None:
    secret = harness.new_key(ACCOUNT, name="in use", last_used_at=datetime.now(UTC))
    (key_id,) = ids_of(harness, secret)
    page = selected(charlie, "revoke", key_id)
    assert "1 key was used in the last 24 hours" in page
    assert send(charlie, page, confirm="yes").status_code == 400
    assert harness.bearer(secret).get("/v1/me").status_code == 200
    assert send(charlie, page, confirm=" Revoke ").status_code == 303
    assert harness.bearer(secret).get("/v1/me").get_json()["code"] == "revoked_credential"


def test_keys_that_can_not_change_are_reported(harness: AppHarness, keys: dict[str, str], charlie: HubBrowser) -> None:
    found = re.search(rf'{KEYS}/([0-9a-f-]+)[^"]*"><bdi>{MARK}revoked</bdi>', charlie.get(f"{KEYS}?q={MARK}").text)
    assert found
    assert keys
    (key_id,) = ids_of(harness, harness.new_key(ACCOUNT, name="still valid"))
    send(charlie, selected(charlie, "pause", found[1], key_id, "00000000-0000-4000-8000-000000000000"))
    notice = html.unescape(charlie.get(KEYS).text)
    assert "Paused 1 key; 1 revoked key cannot be changed; 1 key not found: " in notice


def test_empty_selection_returns_to_the_list(charlie: HubBrowser) -> None:
    for query in ("action=revoke", "action=revoke&ids=x", ""):
        assert charlie.get(f"{BULK}?{query}").location == KEYS
    assert "No keys were selected." in charlie.get(KEYS).text


def test_member_can_not_select_keys(bob: HubBrowser) -> None:
    page = bob.get(KEYS).text
    assert 'name="ids"' not in page
    assert bob.get(f"{BULK}?action=pause&ids=00000000-0000-4000-8000-000000000000").status_code == 403
    assert bob.post(BULK, {"action": "pause", "keys": ""}).status_code == 403


def test_list_is_sent_compressed(keys: dict[str, str], charlie: HubBrowser) -> None:
    """As sent: pages are compressed."""
    assert keys
    page = charlie.client.get(KEYS, base_url=charlie.url, headers={"Accept-Encoding": "gzip"})
    assert page.headers["Content-Encoding"] == "gzip"
    assert len(page.data) < 12_000
