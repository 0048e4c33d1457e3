"""A headless browser that can access only this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

HOW_TO_INSTALL = (
    "the browser tests need Chromium and its driver. On Debian and Ubuntu: apt-get install chromium chromium-driver; "
    "elsewhere install Chrome or Chromium with the chromedriver of the same version, and put both on the PATH"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")


@contextmanager
def browser(scratch: Path, hosts: Mapping[str, str]) -> Iterator[Chrome]:
    """A browser for which `hosts` (`*.acme.example:443` → `127.0.0.1:4711`) are all there is besides loopback names.

    It believes any certificate. Fails the test, and does not skip it, where there is no browser.
    """
    program, driver = _find(BROWSERS), _find(DRIVERS)
    if program is None or driver is None:
        pytest.fail(f"no {'Chromium' if program is None else 'chromedriver'} on the PATH: {HOW_TO_INSTALL}")
    options = Options()
    options.binary_location = program
    rules = [f"MAP {name} {place}" for name, place in hosts.items()]
    rules += ["MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1", "EXCLUDE localhost", "EXCLUDE *.localhost"]
    for argument in (
        *("--headless=new", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--no-proxy-server"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
        # Names and roles are those of the accessibility tree, which is otherwise built and dropped on demand.
        *("--ignore-certificate-errors", "--window-size=1000,800", "--force-renderer-accessibility"),
        # One process for all pages, and none for a GPU that does not exist: a test visits a few pages only, and a new
        # process for each of them takes longer than the page. Scripts have the same rights as with these processes.
        *("--in-process-gpu", "--renderer-process-limit=1", "--disable-site-isolation-trials"),
        "--disable-features=IsolateOrigins,site-per-process",
        f"--host-resolver-rules={', '.join(rules)}",
        f"--user-data-dir={scratch / 'profile'}",
    ):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's own refuses to run as root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver, log_output=str(scratch / "chromedriver.log")))
    try:
        chrome.set_script_timeout(30)
        yield chrome
    finally:
        chrome.quit()


def as_new(chrome: Chrome) -> None:
    """Reset the browser, because a new start costs two seconds: no cookies, no emulation, no history."""
    chrome.get("about:blank")
    for command, parameters in (
        ("Network.clearBrowserCookies", {}),
        ("Network.clearBrowserCache", {}),
        ("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"}),
        ("Browser.resetPermissions", {}),
        ("Emulation.setScriptExecutionDisabled", {"value": False}),
        ("Emulation.setEmulatedMedia", {"media": "", "features": []}),
        ("Emulation.clearDeviceMetricsOverride", {}),
        ("Page.resetNavigationHistory", {}),
    ):
        chrome.execute_cdp_cmd(command, parameters)
    chrome.get_log("browser")  # reading it empties it


def _find(names: tuple[str, ...]) -> str | None:
    return next((found for name in names if (found := shutil.which(name))), None)
