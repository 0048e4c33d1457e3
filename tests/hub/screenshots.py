"""Takes a screenshot of each page for visual review: python -m tests.hub.screenshots FOLDER [DEV_JSON] [--large]

Requires a running `make run` and the browser of the tests. Creates an agent and keys in the development data, and runs
a migration, to show all states of the pages. With `--large`, it first fills acme and the system database, and takes
screenshots of lists, of usage and of one key. This leaves accounts without databases: remove the data folder
afterwards.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from selenium.webdriver.common.by import By

from kataven.dev.personas import ALICE, BOB, OLIVIA
from kataven.system.schema import ACCOUNT_SCHEMA
from tests.hub import large
from tests.hub.chrome_user import DESKTOP, PHONE, ChromeUser
from tests.support.browser import browser

SHARED = {
    "overview": "/",
    "agents": "/agents",
    "api-keys": "/settings/api-keys",
    "widget-keys": "/settings/widget-keys",
    "widget": "/widget",
    "accounts": "/accounts",
    "search": "/search",
    "search-refused": "/search?problem=secret",
}
OWNERS = {
    "agent-new": "/agents/new",
    "api-key-new": "/settings/api-keys/new",
    "audit-log": "/audit-log",
    "nothing": "/nowhere",
    "not-for-you": "/console",
}
CONSOLE = {
    "console-accounts": "/console",
    "console-accounts-by-requests": "/console?sort=requests",
    "console-new-account": "/console/new-account",
    "console-accounts-none": "/console?q=nobody-there",
    "console-account": "/console/accounts/acme",
    "console-keys": "/console/accounts/acme/keys",
    "console-keys-none": "/console/accounts/acme/keys?q=nothing",
    "console-migrations": "/console/migrations",
    "console-migrations-checked": "/console/migrations?check=1",
    "console-health": "/console/health",
    "console-search": "/console/search",
    "console-trail": "/console/trail",
    "console-wall": "/console/wall",
    "console-trail-none": "/console/trail?account=nobody-there",
}
LARGE = {
    "audit-log-of-revocations": "/audit-log?action=api_key.revoked",
    "people": "/people",
    "search-found": "/search?q=server",
    "requests": "/requests",
    "requests-limited": "/requests?outcome=limited&caller=server+1",
    "requests-wrong-filter": "/requests?address=x",
    "request-unknown": "/requests/unknown",
}
"""Further pages that a large account fills. Add each page that shows usage."""
LARGE_CONSOLE = {
    "console-people": "/console/accounts/acme/people",
    "console-accounts-found": "/console?q=bank",
    "console-search-found": "/console/search?q=bank",
}


class Camera:
    """Takes screenshots at both widths, and optionally in dark mode."""

    def __init__(self, user: ChromeUser, folder: Path) -> None:
        self.user = user
        self.folder = folder

    def take(self, name: str, *, dark: bool = False) -> None:
        self._both_widths(name)
        if dark:
            self._prefer("dark")
            self._both_widths(f"{name}-dark")
            self._prefer("light")

    def all_of(self, pages: dict[str, str], *, prefix: str = "", dark: bool = False) -> None:
        for name, path in pages.items():
            self.user.go(path)
            self.take(f"{prefix}{name}", dark=dark)

    def _both_widths(self, name: str) -> None:
        for what, (width, height) in (("phone", PHONE), ("desktop", DESKTOP)):
            self.user.size(width, height)
            whole = self.user.chrome.execute_script("return document.documentElement.scrollHeight")
            self.user.size(width, max(height, whole))
            self.user.chrome.save_screenshot(str(self.folder / f"{name}-{what}.png"))
        self.user.size(*PHONE)  # the next page is opened there

    def _prefer(self, scheme: str) -> None:
        # Disable transitions, so that no button is captured between two colours.
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.user.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def main(folder: Path, dev_json: Path = Path(".kataven/dev.json"), *, with_long_lists: bool = False) -> None:
    """Save every screenshot in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    run = json.loads(dev_json.read_text())
    servers: Any = SimpleNamespace(url=run["hub_url"])
    if with_long_lists:
        large.main(run["database_url"], ALICE.account)
    visits = (
        (large_account_of_alice, large_account_of_olivia)
        if with_long_lists
        else (as_anonymous, as_alice, as_bob, as_olivia)
    )
    for visit in visits:
        _as_user(servers, folder, visit)


def _as_user(servers: Any, folder: Path, visit: Callable[[ChromeUser, Camera], None]) -> None:
    with browser(Path(tempfile.mkdtemp()), {}) as chrome:
        user = ChromeUser(chrome, servers)
        visit(user, Camera(user, folder))


def large_account_of_alice(user: ChromeUser, camera: Camera) -> None:
    user.sign_in(ALICE)
    camera.all_of(SHARED | OWNERS | LARGE, prefix="large-", dark=True)
    user.go("/settings/api-keys")
    user.press("Next keys")
    camera.take("large-api-keys-second")
    user.go("/settings/api-keys?show=expires_soon&sort=expires")
    camera.take("large-api-keys-expiring", dark=True)
    user.go("/settings/api-keys?q=Server+10&sort=name")
    user.press("Server 10")
    camera.take("large-api-key", dark=True)
    user.go("/requests?outcome=limited")
    user.find("#rows th a").click()
    user.find(".pipeline")
    camera.take("large-request", dark=True)
    user.go("/audit-log?action=api_key.revoked")
    user.find("a[href^='/receipts/']").click()
    user.find(".workers")
    camera.take("large-receipt", dark=True)
    user.go("/settings/api-keys?q=Server+10&sort=name")
    user.press("Server 10")
    for button in ("Edit", "Rotate…", "Reduce scopes…", "Revoke…"):
        user.press(button)
        camera.take(f"large-api-key-{button.partition(' ')[0].rstrip('…').lower()}")
        user.press("Cancel")


def large_account_of_olivia(user: ChromeUser, camera: Camera) -> None:
    user.sign_in(OLIVIA)
    camera.all_of(CONSOLE | LARGE_CONSOLE, prefix="large-", dark=True)


def as_anonymous(user: ChromeUser, camera: Camera) -> None:
    user.go("/sign-in")
    camera.take("sign-in", dark=True)
    user.press("Continue")
    camera.take("sign-in-problem")
    user.go("/signed-out")
    camera.take("signed-out")
    user.go("/help/sign-in")
    camera.take("sign-in-help", dark=True)


def as_alice(user: ChromeUser, camera: Camera) -> None:
    user.sign_in(ALICE)
    user.find("details.menu summary").click()
    camera.take("menu")
    camera.all_of(SHARED | OWNERS, dark=True)
    user.go("/agents/new")
    user.press("Create agent")
    camera.take("agent-problem")
    user.type("name", "For a picture")
    user.press("Create agent")
    camera.take("agent")
    user.go("/settings/api-keys/new")
    user.press("Create API key")
    camera.take("api-keys-problem")
    user.type("name", "For a picture")
    user.press("Create API key")
    camera.take("api-key-made", dark=True)
    user.chrome.refresh()
    camera.take("api-key-made-reloaded")
    user.go("/settings/api-keys")
    user.press("For a picture")
    user.press("Rotate…")
    user.press("Create new secret")
    camera.take("api-key-rotated", dark=True)
    user.press("Done: show the state of the old secret")
    camera.take("api-key")
    user.press("Revoke…")
    user.press("Revoke key")
    camera.take("api-key-revoked")
    user.go("/settings/widget-keys")
    user.type("name", "For a picture")
    user.type("domain_allowlist", "*.acme.com")
    user.find(".explained li")
    camera.take("widget-keys-explained")
    user.press("Create widget key")
    camera.take("widget-key-made")
    user.press("Done")
    camera.take("widget-key")


def as_bob(user: ChromeUser, camera: Camera) -> None:
    user.sign_in(BOB)
    camera.all_of(SHARED, prefix="member-")
    user.go("/agents")
    user.chrome.find_elements(By.CSS_SELECTOR, "main th a")[0].click()
    camera.take("member-agent")


def as_olivia(user: ChromeUser, camera: Camera) -> None:
    user.sign_in(OLIVIA)
    camera.all_of(CONSOLE, dark=True)
    user.go("/console/health")
    user.press("Measure now")
    camera.take("console-health-measured")
    user.press("Measure now")
    camera.take("console-health-too-soon")
    user.go("/console/accounts/acme")
    user.press("Suspend account")
    camera.take("console-account-problem")
    user.go("/console/new-account")
    user.press("Create account")
    camera.take("console-accounts-problem")
    user.go("/console/migrations")
    user.press("Upgrade")
    camera.take("console-migrations-problem")
    user.type("confirm", ACCOUNT_SCHEMA.head)
    user.press("Upgrade")
    camera.take("console-migrations-running")
    user.find("#confirm")  # when it has ended
    camera.take("console-migrations-done")


if __name__ == "__main__":
    paths = [Path(word) for word in sys.argv[1:] if word != "--large"]
    main(*paths, with_long_lists="--large" in sys.argv)
