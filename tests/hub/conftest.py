"""Fixtures: a Hub with the databases and the Redis of the test app, and signed-in browsers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
