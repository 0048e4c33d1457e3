"""Sign-in, renewal and sign-out in Chrome, at an independent issuer with Zitadel's tokens.

The Hub, the issuer and the issuer's login page have three different hosts, and each redirects to the next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.hub import issuers
from tests.hub.conftest import Hub
from tests.support.app_harness import AppHarness
from tests.support.browser import as_new, browser
from tests.support.gunicorn import free_port
from tests.support.independent_issuer import IndependentIssuers
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.node]
PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with browser(tmp_path_factory.mktemp("chrome"), {}) as chrome:
        chrome.implicitly_wait(PATIENCE_SECONDS)
        yield chrome


def press(chrome: Chrome, selector: str) -> None:
    chrome.find_element(By.CSS_SELECTOR, selector).click()


def heading(chrome: Chrome, wanted: str) -> str:
    """The page's heading, after the redirects to the expected page or a timeout."""
    found = [""]

    def is_there() -> bool:
        with contextlib.suppress(StaleElementReferenceException, NoSuchElementException):  # between two pages
            found[0] = chrome.find_element(By.CSS_SELECTOR, "h1").text
        return found[0] == wanted

    with contextlib.suppress(TimeoutError):
        wait_until(is_there, PATIENCE_SECONDS)
    return found[0]


def begin(chrome: Chrome, url: str) -> None:
    """Enter the account and submit the form. The browser is redirected to the login page."""
    chrome.get(f"{url}/sign-in")
    chrome.find_element(By.ID, "account").send_keys("acme")
    press(chrome, "main form button")


def console_errors(chrome: Chrome) -> list[Any]:
    """What Chromium reports, except network errors and the note that it cleared its cache, as the sign-out requests."""
    entries = chrome.get_log("browser")
    return [one for one in entries if one["source"] != "network" and "Clear-Site-Data header" not in one["message"]]


def cookie_of(chrome: Chrome, hub: Hub) -> str:
    found = chrome.get_cookie(hub.services.cookie_name)
    assert found is not None
    return str(found["value"])


@pytest.mark.parametrize("with_scripts", [True, False], ids=["scripts", "no scripts"])
def test_sign_in_with_zitadel_as_documented(
    chrome: Chrome, harness: AppHarness, independent_issuers: IndependentIssuers, with_scripts: bool
) -> None:
    port = free_port()
    url = f"http://localhost:{port}"
    with issuers.opened_hub(harness, independent_issuers, issuers.zitadel, port) as hub, issuers.served(hub, port):
        as_new(chrome)
        chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not with_scripts})
        begin(chrome, url)
        press(chrome, "#sign-in")
        assert chrome.find_element(By.CSS_SELECTOR, "details.menu summary").text.startswith("Alice")
        expired = issuers.let_expire(hub, independent_issuers, cookie_of(chrome, hub))
        chrome.get(f"{url}/settings/api-keys")
        assert heading(chrome, "API keys") == "API keys"
        person = issuers.session_of(hub, cookie_of(chrome, hub)).user
        assert person is not None
        assert person.access_token != expired

        press(chrome, "details.menu summary")
        press(chrome, "details.menu form[action='/sign-out'] button")
        press(chrome, "#confirm")  # at the host of the login page
        press(chrome, "button[name=logout]")  # at the issuer
        assert heading(chrome, "You are signed out") == "You are signed out"
        assert chrome.current_url == f"{url}/signed-out"
        assert console_errors(chrome) == []


def test_zitadel_defaults_show_what_to_change(
    chrome: Chrome, harness: AppHarness, independent_issuers: IndependentIssuers
) -> None:
    port = free_port()
    make = issuers.zitadel_by_default
    with issuers.opened_hub(harness, independent_issuers, make, port) as hub, issuers.served(hub, port):
        as_new(chrome)
        begin(chrome, f"http://localhost:{port}")
        press(chrome, "#sign-in")
        assert heading(chrome, "Sign-in failed") == "Sign-in failed"
        assert "“Auth token type”: JWT" in chrome.find_element(By.CSS_SELECTOR, "main").text
        press(chrome, "main a[href^='/help/']")
        assert chrome.current_url.endswith("/help/sign-in#opaque_access_token")
        assert "instead of Bearer token" in chrome.find_element(By.CSS_SELECTOR, "#opaque_access_token ~ ul").text
        assert chrome.get_cookie(hub.services.cookie_name) is not None  # of before the sign-in
        assert console_errors(chrome) == []
