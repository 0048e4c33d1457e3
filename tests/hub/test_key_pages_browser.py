"""The Hub's pages of API keys in Chrome, with 300 keys: presses, keyboard, scripts, themes and widths."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import CHARLIE
from tests.hub import large
from tests.hub.chrome_user import DESKTOP, PHONE, ChromeUser, RunningHub, Sessions, running_hub
from tests.support.app_harness import AppHarness
from tests.support.browser import as_new

pytestmark = pytest.mark.browser

KEYS = "/settings/api-keys"
MAX_BYTES, MAX_REQUESTS = 30_000, 5
TRANSFERRED = """
const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
return [all.length, all.reduce((sum, one) => sum + one.transferSize, 0)];
"""


@pytest.fixture(scope="module")
def servers(
    harness: AppHarness, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningHub]:
    engine = create_engine(postgres.url("globex"), poolclass=NullPool)
    large.fill_keys(engine)
    with running_hub(harness.environ, tmp_path_factory.mktemp("place")) as servers:
        yield servers
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM api_keys WHERE name LIKE 'Server %'"))


@pytest.fixture
def user(chrome: Chrome, servers: RunningHub, sessions: Sessions) -> ChromeUser:
    as_new(chrome)
    user = ChromeUser(chrome, servers, sessions)
    user.size(*DESKTOP)
    user.sign_in_once(CHARLIE)
    return user


def key_path(user: ChromeUser, name: str) -> str:
    user.go(f"{KEYS}?q={name.replace(' ', '+')}&sort=name")
    link = user.chrome.find_element(By.XPATH, f"//bdi[.='{name}']/parent::a").get_attribute("href")
    assert link
    return link.removeprefix(user.servers.url).partition("?")[0]


def is_in_view(user: ChromeUser, selector: str) -> bool:
    script = "const box = arguments[0].getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight"
    return bool(user.chrome.execute_script(script, user.find(selector)))


def test_one_of_300_keys_is_found_and_revoked_with_four_presses(user: ChromeUser) -> None:
    user.go(KEYS)
    assert "1 to 50 of 3" in user.text
    user.enter("#q", "server 271")  # 1
    assert is_in_view(user, "tbody a")
    user.press("Server 271")  # 2
    assert is_in_view(user, ".actions .danger")
    user.press("Revoke…")  # 3
    assert is_in_view(user, "main button.danger")
    user.press("Revoke key")  # 4
    assert re.search(r"Revoked “Server 271” \(….{8}\): (\d) of \1 workers confirmed", user.find("[role=status]").text)
    assert user.find("tbody tr.revoked th").text.startswith("Server 271")
    assert user.console_errors() == []


def test_back_returns_to_the_same_row(user: ChromeUser) -> None:
    user.go(f"{KEYS}?sort=name&show=active")
    user.press("Next keys")
    row = user.chrome.find_elements(By.CSS_SELECTOR, "tbody tr")[-1]
    row_id, name = row.get_attribute("id"), row.find_element(By.TAG_NAME, "bdi").text
    user.press(name)
    user.press("Pause key")
    user.press("API keys")
    assert user.chrome.current_url.endswith(f"#{row_id}")
    assert "sort=name" in user.chrome.current_url
    user.go(f"{KEYS}?q={name.replace(' ', '+')}&show=paused")
    user.press(name)
    user.press("Resume key")
    assert "Resumed" in user.find("[role=status]").text


@pytest.mark.parametrize("script", [True, False])
def test_keys_are_selected_and_paused_with_the_keyboard(user: ChromeUser, script: bool) -> None:
    user.allow_scripts(script)
    user.go(f"{KEYS}?q=server+28&show=active&sort=name")
    boxes = user.chrome.find_elements(By.CSS_SELECTOR, "tbody [name=ids]")
    assert len(boxes) > 2
    if script:
        all_keys = user.find("[data-select-all] input")
        all_keys.send_keys(Keys.SPACE)
        assert all(box.is_selected() for box in boxes)
        assert user.find("[data-selected]").text == f"{len(boxes)} selected"
        all_keys.send_keys(Keys.SPACE)
    for box in boxes[:2]:
        box.send_keys(Keys.SPACE)
    user.enter("button[value=pause]")
    assert user.find("h1").text == "Pause 2 keys?"
    user.enter("main button")
    assert user.find("[role=status]").text.startswith("Paused 2 keys: ")
    user.go(f"{KEYS}?q=server+28&show=paused&sort=name")
    for box in user.chrome.find_elements(By.CSS_SELECTOR, "tbody [name=ids]"):
        box.send_keys(Keys.SPACE)
    user.enter("button[value=resume]")
    user.enter("main button")
    assert user.find("[role=status]").text.startswith("Resumed ")


def test_key_is_rotated_without_a_script(user: ChromeUser) -> None:
    user.allow_scripts(False)
    user.go(key_path(user, "Server 295"))
    user.press("Rotate…")
    user.press("Create new secret")
    assert re.fullmatch(r"sk_live_globex_[0-9A-Za-z]{49}", user.find("#key").text)
    user.press("Done: show the state of the old secret")
    assert "accepted until the new secret is used, and then for 24 hours" in user.find("#secrets").text
    user.press("End former secret")
    assert user.find("[role=status]").text.startswith("Ended the former secret of “Server 295”: ")


PAGES = {
    "list": KEYS,
    "filtered": f"{KEYS}?show=expires_soon&sort=expires",
    "no match": f"{KEYS}?q=nothing",
    "new": f"{KEYS}/new",
    "key": "{key}",
    "edit": "{key}/edit",
    "scopes": "{key}/scopes",
    "rotate": "{key}/rotate",
    "revoke": "{key}/revoke",
    "bulk": f"{KEYS}/bulk?action=revoke&ids={{id}}",
}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_and_small_at_every_width_and_theme(user: ChromeUser, name: str) -> None:
    key = key_path(user, "Server 297")
    path = PAGES[name].format(key=key, id=key.rpartition("/")[2])
    # 640 pixels: a window of 1,280 pixels at a zoom of 200 %.
    for size in (PHONE, (640, 450), (768, 900), (1440, 900)):
        user.size(*size)
        user.chrome.execute_cdp_cmd("Network.clearBrowserCache", {})
        user.go(path)
        requests, transferred = user.chrome.execute_script(TRANSFERRED)
        assert requests <= MAX_REQUESTS
        assert transferred <= MAX_BYTES
        for theme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": theme}]
            user.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            assert user.all_violations() == [], (theme, size)
            assert user.overflow() == 0, (theme, size)
    forced = [{"name": "forced-colors", "value": "active"}]
    user.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": forced})
    user.go(path)
    assert user.all_violations() == []
    assert user.console_errors() == []
