"""Search in Chrome: the dialog by keyboard only, pasted keys, shortcuts that can be disabled, and no JavaScript."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import CHARLIE
from kataven.identity import token as tokens
from kataven.identity.token import TokenKind
from tests.hub import large
from tests.hub.chrome_user import DESKTOP, PATIENCE_SECONDS, PHONE, ChromeUser, RunningHub, Sessions, running_hub
from tests.hub.test_key_pages_browser import MAX_BYTES, MAX_REQUESTS, TRANSFERRED
from tests.support.app_harness import AppHarness
from tests.support.browser import as_new
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

KEYS = "/settings/api-keys"


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


def press(user: ChromeUser, *keys: str) -> None:
    """Press keys, without a target."""
    ActionChains(user.chrome).send_keys(*keys).perform()


def focused(user: ChromeUser) -> str:
    """The text of the focused element, or its id if it has no text."""
    element = user.chrome.switch_to.active_element
    return element.text or element.get_attribute("id") or element.tag_name


def is_open(user: ChromeUser, dialog: str = "palette") -> bool:
    return bool(user.chrome.execute_script("return document.getElementById(arguments[0]).open", dialog))


def results(user: ChromeUser) -> list[str]:
    script = "return [...document.querySelectorAll('#palette .found-title')].map((title) => title.textContent)"
    found: list[str] = user.chrome.execute_script(script)
    return found


def wait_for_result(user: ChromeUser, first: str) -> None:
    wait_until(lambda: results(user)[:1] == [first], PATIENCE_SECONDS)


def at(user: ChromeUser, path: str) -> bool:
    return user.chrome.current_url.removeprefix(user.servers.url).startswith(path)


def test_a_key_is_found_and_opened_by_keyboard_only(user: ChromeUser) -> None:
    user.go("/agents")
    press(user, "/")
    assert focused(user) == "palette-text"
    press(user, "Server 27")
    wait_for_result(user, "Server 27")
    press(user, Keys.ARROW_DOWN)
    assert "Server 27" in focused(user)
    press(user, Keys.ARROW_DOWN)
    assert "Server 270" in focused(user)
    press(user, Keys.ARROW_UP, Keys.ARROW_UP)
    assert focused(user) == "palette-text"
    press(user, Keys.ENTER)  # the first result
    wait_until(lambda: at(user, f"{KEYS}/"), PATIENCE_SECONDS)
    assert user.find("h1").text == "Server 27"
    assert user.console_errors() == []


def test_escape_closes_and_the_focus_returns(user: ChromeUser) -> None:
    user.go(KEYS)
    link = user.find("thead a")
    user.chrome.execute_script("arguments[0].focus()", link)
    ActionChains(user.chrome).key_down(Keys.CONTROL).send_keys("k").key_up(Keys.CONTROL).perform()
    assert is_open(user)
    press(user, "Something", Keys.ESCAPE)
    assert not is_open(user)
    assert user.chrome.switch_to.active_element == link
    press(user, "?")
    assert is_open(user, "shortcuts")
    press(user, Keys.ESCAPE)
    assert user.chrome.switch_to.active_element == link


def test_pages_of_the_navigation_are_results(user: ChromeUser) -> None:
    user.go(KEYS)
    press(user, "/")
    press(user, "audit")
    wait_for_result(user, "Audit log")
    press(user, Keys.ENTER)
    wait_until(lambda: at(user, "/audit-log"), PATIENCE_SECONDS)


def test_shortcuts_do_not_fire_in_fields_and_can_be_disabled(user: ChromeUser) -> None:
    user.go(KEYS)
    box = user.find("#q")
    box.send_keys("a/b?")
    assert box.get_attribute("value") == "a/b?"
    assert not is_open(user)
    assert not is_open(user, "shortcuts")
    user.chrome.execute_script("document.activeElement.blur()")
    press(user, "?")
    setting = user.find("#shortcuts [data-single-keys]")
    user.chrome.execute_script("arguments[0].focus()", setting)
    press(user, Keys.SPACE, Keys.ESCAPE)
    user.go(KEYS)
    press(user, "/")
    press(user, "?")
    assert not is_open(user)
    assert not is_open(user, "shortcuts")
    ActionChains(user.chrome).key_down(Keys.CONTROL).send_keys("k").key_up(Keys.CONTROL).perform()
    assert is_open(user)
    press(user, Keys.ESCAPE)
    user.go("/search")
    user.find("[data-single-keys]").click()
    user.go(KEYS)
    press(user, "/")
    assert is_open(user)


@pytest.mark.parametrize("place", ["palette", "search field"])
def test_a_pasted_key_is_never_in_a_url_and_never_suggested(user: ChromeUser, place: str) -> None:
    secret = tokens.generate(TokenKind.API_KEY, "globex").text
    user.go("/search" if place == "search field" else KEYS)
    if place == "palette":
        press(user, "/")
    else:
        user.find("#q").click()
    user.chrome.execute_script("performance.clearResourceTimings()")
    user.chrome.execute_cdp_cmd("Input.insertText", {"text": secret})  # as pasting does
    if place == "palette":
        wait_until(lambda: "looks like a key" in user.find("#palette").text, PATIENCE_SECONDS)
        assert user.chrome.execute_script("return performance.getEntriesByType('resource').length") == 0
    press(user, Keys.ENTER)
    wait_until(lambda: "No key of this account has this secret" in user.chrome.page_source, PATIENCE_SECONDS)
    assert user.chrome.current_url == f"{user.servers.url}/search"
    assert secret not in user.chrome.page_source
    user.chrome.back()
    user.find("h1")
    values = user.chrome.execute_script("return [...document.querySelectorAll('input')].map((box) => box.value)")
    assert secret not in values
    urls = user.chrome.execute_cdp_cmd("Page.getNavigationHistory", {})["entries"]
    assert not [entry["url"] for entry in urls if "sk_live" in entry["url"]]


def test_search_works_without_scripts(user: ChromeUser) -> None:
    user.allow_scripts(False)
    user.go(KEYS)
    user.chrome.find_element(By.LINK_TEXT, "Search").click()
    user.enter("#q", "Server 123")
    user.find(".found a").click()
    assert user.find("h1").text == "Server 123"
    user.go("/search")
    user.type("secret", tokens.generate(TokenKind.API_KEY, "globex").text)
    user.press("Find key")
    assert "No key of this account has this secret" in user.text
    assert "Keyboard shortcuts" not in user.text


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_dialogs_are_accessible(user: ChromeUser, theme: str, size: tuple[int, int]) -> None:
    features = [{"name": "prefers-color-scheme", "value": theme}]
    user.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    user.go(KEYS)
    user.size(*size)
    press(user, "/")
    press(user, "Server 27")
    wait_for_result(user, "Server 27")
    assert user.all_violations() == []
    assert user.overflow() == 0
    press(user, Keys.ESCAPE)
    press(user, "?")
    assert is_open(user, "shortcuts")
    assert user.all_violations() == []


@pytest.mark.parametrize("path", ["/search", "/search?q=server", "/widget", "/agents"])
def test_pages_are_small(user: ChromeUser, path: str) -> None:
    user.chrome.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    user.go(path)
    requests, transferred = user.chrome.execute_script(TRANSFERRED)
    user.chrome.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": False})
    assert requests <= MAX_REQUESTS
    assert transferred <= MAX_BYTES
