"""Fixtures: a Hub with the databases and the Redis of the test app, and signed-in browsers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import redis
from flask import Flask

import app as factory
from kataven import settings
from kataven.dev.personas import ALICE, BOB, CHARLIE, OLIVIA, Persona, org_id
from kataven.hub.pages_app import PAGES
from kataven.hub.session_middleware import EXTENSION, HubServices
from kataven.identity.credential import OPERATORS_ACCOUNT
from kataven.web.services import EXTENSION as SERVICES
from tests.hub.hub_browser import HubBrowser
from tests.support.app_harness import AppHarness

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.hub.chrome_user import ChromeUser, RunningHub, Sessions

HUB_URL = "http://localhost:4711"


@dataclass(frozen=True)
class Hub:
    """The Hub app, the app of its pages, and its services."""

    app: Flask
    pages: Flask
    services: HubServices

    def browser(self) -> HubBrowser:
        return HubBrowser(self.app, HUB_URL)

    def signed_in(self, person: Persona, account: str | None = None) -> HubBrowser:
        return self.browser().sign_in(person, account)


@pytest.fixture(scope="module")  # not longer: it is an additional worker, which receipts in other tests would count
def hub(harness: AppHarness) -> Iterator[Hub]:
    environ = {
        **harness.environ,
        "KATAVEN_HUB_URL": HUB_URL,
        "KATAVEN_OPERATORS_ORG_ID": org_id(OPERATORS_ACCOUNT),
    }
    app = factory.create_hub(settings.load(environ))
    app.extensions[SERVICES].start()
    pages: Flask = app.extensions[PAGES]
    yield Hub(app, pages, pages.extensions[EXTENSION])
    app.extensions[SERVICES].stop()


@pytest.fixture
def alice(hub: Hub) -> HubBrowser:
    """Owner of acme."""
    return hub.signed_in(ALICE)


@pytest.fixture
def bob(hub: Hub) -> HubBrowser:
    """Member of acme."""
    return hub.signed_in(BOB)


@pytest.fixture
def charlie(hub: Hub) -> HubBrowser:
    """Owner of globex."""
    return hub.signed_in(CHARLIE)


@pytest.fixture
def olivia(hub: Hub) -> HubBrowser:
    """Operator."""
    return hub.signed_in(OLIVIA)


@pytest.fixture
def anonymous(hub: Hub) -> HubBrowser:
    return hub.browser()


@pytest.fixture(autouse=True)
def _addresses_have_asked_for_nothing(request: pytest.FixtureRequest) -> None:
    """Reset the budgets: all tests of a process share a few addresses and exceed the budget of one minute."""
    if "harness" in request.fixturenames:
        url = request.getfixturevalue("harness").environ["KATAVEN_REDIS_URL"]
        with redis.Redis.from_url(url) as client:
            for name in client.scan_iter("limits:*address*"):
                client.delete(name)


@pytest.fixture(scope="module")
def servers(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """The running API and Hub, for tests in a browser. Modules with other data have their own."""
    from tests.hub.chrome_user import running_hub  # loads Selenium, which most tests don't need

    with running_hub(harness.environ, tmp_path_factory.mktemp("place")) as servers:
        yield servers


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser of this module."""
    from tests.support.browser import browser

    with browser(tmp_path_factory.mktemp("chrome"), {}) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    """The cookies of sign-ins in this module."""
    return {}


@pytest.fixture
def user(chrome: Chrome, servers: RunningHub, sessions: Sessions) -> ChromeUser:
    """A user with a browser as new, not signed in."""
    from tests.hub.chrome_user import DESKTOP, ChromeUser
    from tests.support.browser import as_new

    as_new(chrome)
    user = ChromeUser(chrome, servers, sessions)
    user.size(*DESKTOP)
    return user
