"""A picture of each page at phone and desktop width, to be looked at: python -m tests.hub.screenshots FOLDER

Needs a `make run` on this machine, and a browser as the tests do.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kataven.dev.cast import ALICE
from tests.hub.place import DESKTOP, PHONE, Guest
from tests.support.browser import browser

PAGES = {
    "overview": "/",
    "api-keys": "/settings/api-keys",
    "audit-log": "/audit-log",
    "accounts": "/accounts",
    "nothing": "/nowhere",
}


def main(folder: Path, dev_json: Path = Path(".kataven/dev.json")) -> None:
    """Save every picture in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    place: Any = SimpleNamespace(url=json.loads(dev_json.read_text())["hub_url"])
    with browser(Path(tempfile.mkdtemp()), {}) as chrome:
        guest = Guest(chrome, place)
        guest.go("/sign-in")
        take(guest, folder, "sign-in")
        guest.sign_in(ALICE)
        for name, path in PAGES.items():
            guest.go(path)
            take(guest, folder, name)
        guest.go("/settings/api-keys")
        guest.type("name", "For a picture")
        guest.press("Make the key")
        take(guest, folder, "api-key-made")
        guest.press("I have copied it")
        guest.find("[aria-label='Revoke For a picture']").click()
        take(guest, folder, "api-key-revoked")


def take(guest: Guest, folder: Path, name: str) -> None:
    for what, (width, height) in (("phone", PHONE), ("desktop", DESKTOP)):
        guest.size(width, height)
        whole = guest.chrome.execute_script("return document.documentElement.scrollHeight")
        guest.size(width, max(height, whole))
        guest.chrome.save_screenshot(str(folder / f"{name}-{what}.png"))


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
