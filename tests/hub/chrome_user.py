"""The Hub and the API as two gunicorn services, and a Chrome browser at the Hub."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from kataven.dev.personas import Persona, org_id
from kataven.identity.credential import OPERATORS_ACCOUNT
from tests.support.gunicorn import Gunicorn, free_port
from tests.support.waiting import wait_until

AXE = Path(__file__).resolve().parents[1] / "vendor" / "axe-core" / "axe.min.js"
PATIENCE_SECONDS = 20
PHONE, DESKTOP = (390, 844), (1280, 900)

Sessions = dict[Persona, list[dict[str, Any]]]

_ADDRESSES = itertools.count(1)


@dataclass(frozen=True)
class RunningHub:
    """The two running services."""

    hub: Gunicorn
    api: Gunicorn

    @property
    def url(self) -> str:
        return f"http://localhost:{self.hub.port}"


@contextmanager
def running_hub(environ: Mapping[str, str], folder: Path) -> Iterator[RunningHub]:
    """Run both services with the databases and the Redis of `environ`."""
    port = free_port()
    ours = {
        **environ,
        "KATAVEN_HUB_URL": f"http://localhost:{port}",
        "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT),
        "KATAVEN_TRUSTED_PROXIES": "1",
    }
    with ExitStack() as stack:
        api = stack.enter_context(Gunicorn(ours, folder / "api.log", workers=2))
        ours["KATAVEN_API_URL"] = api.url
        hub = stack.enter_context(Gunicorn(ours, folder / "hub.log", workers=1, application="wsgi:hub", port=port))
        yield RunningHub(hub, api)


class ChromeUser:
    """A user with a Chrome browser."""

    def __init__(self, chrome: Chrome, servers: RunningHub, sessions: Sessions | None = None) -> None:
        """`sessions` contains cookies of earlier sign-ins at the same Hub."""
        self.chrome = chrome
        self.servers = servers
        self.sessions = {} if sessions is None else sessions
        chrome.implicitly_wait(PATIENCE_SECONDS)
        # A separate client address for each user, because addresses have a budget.
        chrome.execute_cdp_cmd("Network.enable", {})
        chrome.execute_cdp_cmd(
            "Network.setExtraHTTPHeaders", {"headers": {"X-Forwarded-For": f"198.51.100.{next(_ADDRESSES)}"}}
        )

    def go(self, path: str) -> None:
        self.chrome.get(f"{self.servers.url}{path}")

    def find(self, selector: str) -> WebElement:
        return self.chrome.find_element(By.CSS_SELECTOR, selector)

    def is_absent(self, selector: str) -> bool:
        """Whether the page has no such element now. `find_elements` waits for one as long as `find`."""
        self.chrome.implicitly_wait(0)
        try:
            return not self.chrome.find_elements(By.CSS_SELECTOR, selector)
        finally:
            self.chrome.implicitly_wait(PATIENCE_SECONDS)

    def allow_scripts(self, allowed: bool) -> None:
        """Whether the next pages run scripts. A browser as new does."""
        self.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def press(self, words: str) -> None:
        """Click a button or link of `main` by its text, and wait for the next page."""
        before = self.find("html")
        self.chrome.find_element(
            By.XPATH, f"//main//*[(self::button or self::a) and normalize-space()={words!r}]"
        ).click()
        wait_until(lambda: _is_gone(before), PATIENCE_SECONDS)

    def enter(self, selector: str, *words: str) -> None:
        """Type words and Enter into an element, and wait for the next page."""
        before = self.find("html")
        self.find(selector).send_keys(*words, Keys.ENTER)
        wait_until(lambda: _is_gone(before), PATIENCE_SECONDS)

    def type(self, field: str, words: str) -> None:
        box = self.find(f"#{field}")
        box.clear()
        box.send_keys(words)

    def sign_in(self, person: Persona, account: str | None = None) -> None:
        """Sign in at the Hub, via the issuer."""
        self.go("/sign-in")
        self.type("account", account or person.account)
        self.press("Continue")
        self.find(f"button[value={person.subject}]").click()
        self.find("details.menu")  # back at the Hub, with a session
        self.sessions[person] = self._cookies()

    def sign_in_once(self, person: Persona) -> None:
        """Reuse an earlier session of this persona, for tests that are not about sign-in."""
        if person not in self.sessions:
            self.sign_in(person)
        self.chrome.execute_cdp_cmd("Network.setCookies", {"cookies": self.sessions[person]})

    def _cookies(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.chrome.execute_cdp_cmd("Network.getCookies", {})["cookies"]
        return found

    @property
    def text(self) -> str:
        return self.find("body").text

    def size(self, width: int, height: int) -> None:
        """Set the size of the viewport."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def violations(self) -> list[str]:
        """Serious and critical violations that axe finds: the rule and the element."""
        return self._violations({"serious", "critical"})

    def all_violations(self) -> list[str]:
        """Every violation that axe finds."""
        return self._violations({"minor", "moderate", "serious", "critical"})

    def _violations(self, impacts: set[str]) -> list[str]:
        self.chrome.execute_script(AXE.read_text("utf-8"))
        # A transition, as after a change of the theme, has colours that no state of the page has: end it first.
        found = self.chrome.execute_async_script(
            "const done = arguments[arguments.length - 1]; document.getAnimations().forEach((one) => one.finish());"
            "axe.run({resultTypes: ['violations']}).then(done, error => done({error: String(error)}))"
        )
        assert "violations" in found, found
        return [
            f"{violation['id']}: {node['html']}"
            for violation in found["violations"]
            if violation["impact"] in impacts
            for node in violation["nodes"]
        ]

    def overflow(self) -> int:
        """The number of pixels by which the page is wider than the window."""
        wider: int = self.chrome.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wider

    def console_errors(self) -> list[str]:
        """New severe messages in the browser's console, such as CSP violations. Excludes HTTP statuses."""
        severe = [entry for entry in self.chrome.get_log("browser") if entry["level"] == "SEVERE"]
        return [entry["message"] for entry in severe if entry["source"] != "network"]


def _is_gone(element: WebElement) -> bool:
    """Whether the browser has left the element's page."""
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    except WebDriverException as error:  # the driver's message during navigation
        return "does not belong to the document" in str(error)
    return False
