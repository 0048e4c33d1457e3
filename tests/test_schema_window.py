"""The schema revisions that a release serves; an account outside the window gets 503, others are not affected."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import make_url

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.system import accounts
from kataven.system.schema import ACCOUNT_SCHEMA, OLDEST_SERVED
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.support.servers import ask

TOO_OLD, TOO_NEW = "account_0000", "account_9999"


def set_recorded_revision(harness: AppHarness, account: str, revision: str) -> None:
    """Set the revision that the system database has recorded."""
    with harness.services.directory.database.writing() as session:
        accounts.read(session, account).schema_revision = revision
    harness.services.revocation.revoke(harness.scope(account))


def set_actual_revision(postgres: EmbeddedPostgres, account: str, revision: str) -> None:
    """Set the revision in the account's database."""
    ask(postgres, f"UPDATE alembic_version SET version_num = '{revision}'", account)


def by_key(harness: AppHarness, account: str) -> Caller:
    return harness.bearer(harness.new_key(account))


def by_jwt(harness: AppHarness, account: str) -> Caller:
    return harness.user(Persona("dora", "Dora", account, Role.OWNER))


@pytest.mark.parametrize("caller_of", [by_key, by_jwt])
@pytest.mark.parametrize("revision", [TOO_OLD, TOO_NEW])
def test_account_outside_the_window_returns_503_and_others_are_served(
    harness: AppHarness,
    postgres: EmbeddedPostgres,
    acme_key: Caller,
    revision: str,
    caller_of: Callable[[AppHarness, str], Caller],
) -> None:
    account = f"{revision.replace('_', '-')}-{caller_of.__name__.replace('_', '-')}"
    new_account(harness.services, account)
    caller = caller_of(harness, account)
    assert caller.get("/v1/agents").status_code == 200
    set_actual_revision(postgres, account, revision)
    set_recorded_revision(harness, account, revision)

    for method, path in (("GET", "/v1/agents"), ("POST", "/v1/agents"), ("GET", "/v1/api-keys")):
        answer = caller.call(method, path, json={"name": "x"} if method == "POST" else None)
        problem = answer.get_json()
        assert (answer.status_code, problem["code"]) == (503, "schema_mismatch")
        assert revision in problem["detail"]
        assert ACCOUNT_SCHEMA.served in problem["detail"]
        assert answer.headers["Retry-After"] == "60"
    assert acme_key.get("/v1/agents").status_code == 200
    ready = harness.caller().get("/readyz").get_json()
    assert "accounts have a schema that this release can't serve" in ready["checks"]["migrations"]

    set_actual_revision(postgres, account, ACCOUNT_SCHEMA.head)
    set_recorded_revision(harness, account, ACCOUNT_SCHEMA.head)
    assert caller.get("/v1/agents").status_code == 200


def test_outdated_recorded_revision_is_detected(
    harness: AppHarness, postgres: EmbeddedPostgres, acme_key: Caller
) -> None:
    new_account(harness.services, "older-than-believed")
    caller = by_jwt(harness, "older-than-believed")
    ask(postgres, "ALTER TABLE agents RENAME TO agents_of_old", "older-than-believed")
    set_actual_revision(postgres, "older-than-believed", TOO_OLD)
    answer = caller.get("/v1/agents")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "schema_mismatch")
    assert TOO_OLD in answer.get_json()["detail"]
    assert acme_key.get("/v1/agents").status_code == 200


def test_window_reaches_from_the_declared_revision_to_the_newest() -> None:
    assert ACCOUNT_SCHEMA.window[0] == OLDEST_SERVED
    assert ACCOUNT_SCHEMA.window[-1] == ACCOUNT_SCHEMA.head


@pytest.mark.parametrize("revision", ACCOUNT_SCHEMA.window)
def test_every_revision_of_the_window_is_served(harness: AppHarness, postgres: EmbeddedPostgres, revision: str) -> None:
    account = f"at-{revision.replace('_', '-')}"
    new_account(harness.services, account)
    _remake(postgres, account, revision)
    set_recorded_revision(harness, account, revision)
    caller, owner = by_key(harness, account), by_jwt(harness, account)
    agent = caller.post("/v1/agents", {"name": "Front desk"}).get_json()
    for status, answer in (
        (200, caller.get("/v1/me")),
        (200, caller.get("/v1/agents")),
        (200, caller.get(f"/v1/agents/{agent['id']}")),
        (200, caller.patch(f"/v1/agents/{agent['id']}", {"description": "x"})),
        (200, caller.patch(f"/v1/agents/{agent['id']}/widget-settings", {"widget_enabled": True})),
        (204, caller.delete(f"/v1/agents/{agent['id']}")),
        (201, owner.post("/v1/api-keys", {"name": "CI", "expiry": "30d"})),
        (200, caller.get("/v1/api-keys")),
        (200, owner.get("/v1/audit-events")),
    ):
        assert answer.status_code == status, answer.get_json()


def _remake(postgres: EmbeddedPostgres, account: str, revision: str) -> None:
    """Replace the account's database with one at `revision`."""
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        template = Templates(server, ACCOUNT_SCHEMA).ensure(maintenance, revision)
        maintenance.drop(account)
        maintenance.create(account, template)
