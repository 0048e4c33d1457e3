"""What all pages share, in Chrome: the theme, the navigation on a phone, local times, and the states of buttons."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from kataven.dev.personas import ALICE, OLIVIA
from tests.hub.chrome_user import PATIENCE_SECONDS, PHONE, ChromeUser
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser


def background(user: ChromeUser) -> str:
    return user.find("body").value_of_css_property("background-color")


@pytest.mark.parametrize("script", [True, False])
def test_theme_is_switched_and_kept(user: ChromeUser, script: bool) -> None:
    user.sign_in_once(ALICE)
    user.allow_scripts(script)
    user.go("/agents/new")
    light = background(user)
    user.type("name", "Not saved yet")
    user.find("details.menu summary").click()
    user.find(".theme [value=dark]").click()
    wait_until(lambda: user.find("html").get_attribute("data-theme") == "dark", PATIENCE_SECONDS)
    assert background(user) != light
    assert user.find("#name").get_attribute("value") == ("Not saved yet" if script else "")
    user.go("/agents")
    assert user.find("html").get_attribute("data-theme") == "dark"
    assert user.find(".theme [aria-pressed=true]").get_attribute("value") == "dark"
    assert user.console_errors() == []


@pytest.mark.parametrize("script", [True, False])
def test_phone_navigation_lists_every_entry(user: ChromeUser, script: bool) -> None:
    user.sign_in_once(ALICE)
    user.size(*PHONE)
    user.allow_scripts(script)
    user.go("/agents")
    links = user.chrome.find_elements(By.CSS_SELECTOR, ".side a")
    assert len(links) >= 7
    assert not any(link.is_displayed() for link in links)
    user.find(".menu-button").click()
    assert all(link.is_displayed() for link in links)
    assert user.overflow() <= 0
    user.find(".menu-button").send_keys(Keys.ESCAPE)
    assert not any(link.is_displayed() for link in links)
    user.find(".menu-button").click()
    user.find(".side a[href='/audit-log']").click()
    wait_until(lambda: user.chrome.current_url.endswith("/audit-log"), PATIENCE_SECONDS)


def test_open_phone_navigation_is_accessible(user: ChromeUser) -> None:
    user.sign_in_once(OLIVIA)
    user.size(*PHONE)
    user.go("/console")
    user.find(".menu-button").click()
    assert user.all_violations() == []


def test_times_are_local_with_utc_in_the_title(user: ChromeUser) -> None:
    user.chrome.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    user.sign_in_once(ALICE)
    user.go("/audit-log")
    time = user.find("tbody time")
    assert "5:30" in time.text, time.text
    assert time.get_attribute("title").endswith(" UTC")
    user.go("/agents/new")
    user.type("name", "Created just now")
    user.press("Create agent")
    assert user.find("main time").text == "just now"
    local, _, utc = user.find("main time").get_attribute("title").partition("\n")
    assert "5:30" in local
    assert utc.endswith(" UTC")


def test_form_is_sent_once_and_its_button_is_busy(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go("/agents/new")
    prevented, busy = user.chrome.execute_script(
        "const form = document.querySelector('main form'), button = form.querySelector('button'), prevented = [];"
        "addEventListener('submit', (event) => { prevented.push(event.defaultPrevented); event.preventDefault(); });"
        "form.requestSubmit(button); form.requestSubmit(button);"
        "return [prevented, button.getAttribute('aria-busy')];"
    )
    assert prevented == [False, True]
    assert busy == "true"


def test_form_can_be_sent_again_after_going_back(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go("/agents/new")
    user.press("Create agent")
    assert user.find("#summary").text == "There is a problem"
    user.chrome.back()
    button = user.find("main form button")
    assert button.get_attribute("aria-busy") is None
    user.type("name", "After going back")
    user.press("Create agent")
    assert user.find("h1").text == "After going back"


def test_status_tags_have_a_border_with_forced_colours(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.chrome.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "forced-colors", "value": "active"}]}
    )
    user.go("/agents")
    tag = user.find(".tag")
    assert tag.value_of_css_property("border-top-color") == tag.value_of_css_property("color")
    assert tag.value_of_css_property("border-top-width") == "1px"


@pytest.mark.parametrize("script", [True, False])
def test_back_shows_nothing_of_the_account_after_sign_out(user: ChromeUser, script: bool) -> None:
    user.sessions = {}  # the other tests keep theirs
    user.sign_in(ALICE)
    user.allow_scripts(script)
    for path in ("/agents", "/settings/api-keys", "/audit-log"):
        user.go(path)
    user.find("details.menu summary").click()
    user.find("form[action='/sign-out'] button").click()
    wait_until(lambda: user.chrome.current_url.endswith("/signed-out"), PATIENCE_SECONDS)
    for _ in range(5):
        user.chrome.back()
        wait_until(lambda: user.find("body").is_displayed() and user.find("h1").text != "", PATIENCE_SECONDS)
        assert user.is_absent("nav.side a[href='/agents']"), user.chrome.current_url


def test_back_restores_the_page_without_a_request(user: ChromeUser) -> None:
    """The page returns as it was left, with its scroll position and what was typed."""
    user.sign_in_once(ALICE)
    user.go("/agents/new")
    user.type("name", "Typed before going on")
    user.chrome.execute_script("window.left = 'as it was'")
    user.find(".side a[href='/settings/api-keys']").click()
    wait_until(lambda: user.chrome.current_url.endswith("/api-keys"), PATIENCE_SECONDS)
    user.chrome.back()
    wait_until(lambda: user.chrome.current_url.endswith("/agents/new"), PATIENCE_SECONDS)
    assert user.find("#name").get_attribute("value") == "Typed before going on"
    assert user.chrome.execute_script("return window.left") == "as it was"


def test_refused_sign_out_does_not_hide_the_pages(user: ChromeUser) -> None:
    """For example in a tab that was open before the account was switched. The session continues."""
    user.sign_in_once(ALICE)
    user.go("/agents")
    user.chrome.execute_script("document.querySelector('form[action=\"/sign-out\"] [name=csrf]').value = 'outdated'")
    user.find("details.menu summary").click()
    user.find("form[action='/sign-out'] button").click()
    wait_until(lambda: user.chrome.current_url.endswith("/sign-out"), PATIENCE_SECONDS)
    wait_until(lambda: "You are still signed in" in user.text, PATIENCE_SECONDS)
    user.go("/agents")
    assert user.find("nav.side a[href='/agents']").is_displayed()


def test_back_reloads_a_page_of_another_account(user: ChromeUser) -> None:
    user.sign_in_once(ALICE)
    user.go("/agents")
    user.chrome.execute_script("window.left = 'as it was'")
    user.find(".side a[href='/settings/api-keys']").click()
    wait_until(lambda: user.chrome.current_url.endswith("/api-keys"), PATIENCE_SECONDS)
    user.chrome.execute_script("localStorage.setItem('kataven-account', 'globex')")  # as the pages of globex do
    user.chrome.back()
    wait_until(lambda: user.chrome.current_url.endswith("/agents"), PATIENCE_SECONDS)
    wait_until(lambda: user.chrome.execute_script("return window.left") is None, PATIENCE_SECONDS)
    wait_until(
        lambda: user.chrome.execute_script("return localStorage.getItem('kataven-account')") == "acme", PATIENCE_SECONDS
    )
