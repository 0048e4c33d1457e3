"""An API key in Chrome, from its creation to its revocation: the flow of the Hub that `make test` runs in a browser.

`make test-pages` runs the others.
"""

from __future__ import annotations

import re

import httpx2
from selenium.webdriver.common.by import By

from kataven.dev.personas import ALICE
from tests.hub.chrome_user import ChromeUser, RunningHub

KEY = re.compile(r"sk_live_acme_[0-9A-Za-z]{49}")
KEYS = "/settings/api-keys"
NEW_KEY = f"{KEYS}/new"


def status(servers: RunningHub, key: str) -> int:
    """The status of an API request with this key."""
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{servers.api.url}/v1/me", headers=headers, trust_env=False).status_code


def test_api_key_is_created_shown_once_and_revoked(user: ChromeUser, servers: RunningHub) -> None:
    user.sign_in(ALICE)
    user.go(NEW_KEY)
    user.type("name", "Till in Berlin")
    user.press("Create API key")
    found = KEY.search(user.find("#key").text)
    assert found
    key = found[0]
    assert status(servers, key) == 200

    user.chrome.refresh()  # resubmits the form
    assert not KEY.search(user.text)
    user.go(KEYS)
    assert [row.text for row in user.chrome.find_elements(By.TAG_NAME, "bdi")].count("Till in Berlin") == 1
    user.chrome.back()
    assert not KEY.search(user.text)
    user.chrome.forward()

    user.go(KEYS)
    user.press("Till in Berlin")
    user.press("Revoke…")
    user.find("h1")
    if not user.is_absent("#confirm"):  # the use was written by now
        user.type("confirm", "Till in Berlin")
    user.press("Revoke key")
    assert re.search(r"(\d) of \1 workers confirmed after \d+ ms", user.find("[role=status]").text)
    assert status(servers, key) == 403
    assert user.console_errors() == []
