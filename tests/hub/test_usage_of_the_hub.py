"""Requests to the Hub are no usage of an account."""

from __future__ import annotations

from uuid import uuid4

from kataven.dev.personas import ALICE, Persona
from kataven.identity.principal import Role
from kataven.web.services import EXTENSION, Services
from tests.hub.conftest import Hub
from tests.support.app_harness import AppHarness, new_account


def test_pages_and_the_legacy_path_are_not_counted(harness: AppHarness, hub: Hub) -> None:
    account = f"pages-{uuid4().hex[:12]}"
    new_account(harness.services, account)
    key = harness.bearer(harness.new_key(account))
    legacy = hub.app.test_client().get("/hub-api/api/v1/agents", headers=dict(key.headers))
    assert legacy.status_code == 200
    assert hub.signed_in(ALICE).get("/agents").status_code == 200
    services: Services = hub.app.extensions[EXTENSION]
    for usage in (services.usage, harness.services.usage):
        assert usage is not None
        usage.flush()
    owner = harness.user(Persona(f"owner-{account}", "Owner", account, Role.OWNER))
    assert owner.get("/v1/usage").get_json()["calls"] == 0
    assert key.get("/v1/agents").status_code == 200
    assert harness.services.usage is not None
    harness.services.usage.flush()
    assert owner.get("/v1/usage").get_json()["calls"] == 2
