"""Commands that revoke credentials: when they return, no worker accepts these credentials."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import make_url, text

import app as factory
from kataven import settings
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.identity.peppers import PepperRing
from kataven.operations import account_status
from kataven.operations.operator import Operator
from kataven.revocation import RevocationUnconfirmed
from kataven.system import accounts, rotation_policy, servers
from kataven.system.database import SystemDatabase
from kataven.system.directory import Directory
from kataven.system.errors import SystemSchemaBehind, WrongStatus
from kataven.system.models import AccountStatus, OperatorEvent
from kataven.system.schema import SYSTEM_SCHEMA
from kataven.tenancy.server import DatabaseServer
from kataven.web.services import EXTENSION
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.support.waiting import wait_until


def flask(harness: AppHarness, *words: str) -> Result:
    return harness.app.test_cli_runner().invoke(args=list(words))


def run_json(harness: AppHarness, *words: str) -> Any:
    result = flask(harness, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def audit_events(harness: AppHarness, account: str) -> list[dict[str, Any]]:
    with harness.services.directory.database.reading() as session:
        events = session.query(OperatorEvent).filter_by(account_id=account).order_by(OperatorEvent.at)
        return [{"action": event.action, **event.detail} for event in events]


@pytest.mark.parametrize(("verb", "opened"), [("suspend", "resume"), ("archive", "restore")])
def test_suspended_or_archived_account_is_refused_until_reactivated(
    harness: AppHarness, verb: str, opened: str
) -> None:
    account = f"to-{verb}"
    new_account(harness.services, account)
    caller = harness.bearer(harness.new_key(account))
    assert caller.get("/v1/me").status_code == 200

    receipt = run_json(harness, "accounts", verb, account)
    assert receipt["workers"] == receipt["acknowledged"] == 1
    assert caller.get("/v1/me").get_json()["code"] == "account_suspended"
    assert flask(harness, "accounts", verb, account).exit_code == 1

    run_json(harness, "accounts", opened, account)
    assert caller.get("/v1/me").status_code == 200
    assert audit_events(harness, account)[-2]["receipt"] == receipt


def test_status_change_does_not_revert_a_deletion_in_progress(harness: AppHarness) -> None:
    """A deletion holds the lock of the database while it dumps and drops it; the console does not take that lock."""
    new_account(harness.services, "in-deletion")
    with harness.services.directory.database.writing() as session:
        accounts.move(session, "in-deletion", AccountStatus.DELETING, AccountStatus.ACTIVE)
    with pytest.raises(WrongStatus):
        account_status.restore(Operator("test", harness.services), "in-deletion")
    assert run_json(harness, "accounts", "restore", "in-deletion")["acknowledged"] == 1


def test_policy_shortens_existing_keys_only_with_existing(harness: AppHarness) -> None:
    new_account(harness.services, "tightened")
    caller = harness.bearer(harness.new_key("tightened"))
    assert caller.get("/v1/me").status_code == 200

    assert run_json(harness, "accounts", "policy", "tightened", "--max-key-expiry-days", "30")["keys_shortened"] == 0
    assert caller.get("/v1/api-keys").get_json()[0]["expires_at"] is None
    assert (
        run_json(harness, "accounts", "policy", "tightened", "--max-key-expiry-days", "30", "--existing")[
            "keys_shortened"
        ]
        == 1
    )
    key = caller.get("/v1/api-keys").get_json()[0]
    life = datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])
    assert life == timedelta(days=30)
    assert run_json(harness, "accounts", "policy", "tightened", "--no-max-key-expiry")["keys_shortened"] == 0
    assert flask(harness, "accounts", "policy", "tightened").exit_code == 2


def test_rotation_policy_marks_keys_with_older_secrets(harness: AppHarness) -> None:
    account = "aging"
    new_account(harness.services, account)
    now = datetime.now(UTC)
    for name, columns in {
        "fresh": {},
        "old": {"created_at": now - timedelta(days=91)},
        "old but rotated": {"created_at": now - timedelta(days=91), "rotated_at": now - timedelta(days=1)},
        "revoked": {"created_at": now - timedelta(days=91), "disabled_at": now},
        "expired": {"created_at": now - timedelta(days=91), "expires_at": now - timedelta(days=1)},
    }.items():
        caller = harness.bearer(harness.new_key(account, name=name, **columns))
        assert name in ("revoked", "expired") or caller.get("/v1/me").status_code == 200

    def due() -> list[str]:
        return [key["name"] for key in harness.bearer(key).get("/v1/api-keys").get_json() if key["rotation_due"]]

    key = harness.new_key(account, name="caller")
    assert due() == []
    policy = ("accounts", "policy", account)
    assert run_json(harness, *policy, "--rotate-after-days", "90") == {"rotate_after_days": 90}
    wait_until(lambda: due() == ["old"], 60)
    listed = harness.bearer(key).get("/v1/api-keys?rotation_due=true").get_json()
    assert [found["name"] for found in listed] == ["old"]
    others = harness.bearer(key).get("/v1/api-keys?rotation_due=false").get_json()
    assert sorted(found["name"] for found in others) == ["caller", "expired", "fresh", "old but rotated", "revoked"]
    printed = run_json(harness, "keys", "list", "--account", account, "--rotation-due")
    assert [(found["name"], found["rotation_due"]) for found in printed] == [("old", True)]
    assert run_json(harness, "accounts", "show", account)["rotate_after_days"] == 90
    assert audit_events(harness, account)[-1] == {"action": "account.policy_changed", "rotate_after_days": 90}

    both = run_json(harness, *policy, "--no-rotate-after-days", "--max-key-expiry-days", "365")
    assert both["rotate_after_days"] is None
    assert both["keys_shortened"] == 0
    assert due() == []
    assert harness.bearer(key).get("/v1/api-keys?rotation_due=true").get_json() == []
    assert flask(harness, *policy, "--no-rotate-after-days", "--rotate-after-days", "3").exit_code == 2
    assert flask(harness, *policy, "--rotate-after-days", "0").exit_code == 2


def test_rotation_policy_needs_the_newest_system_schema(harness: AppHarness, postgres: EmbeddedPostgres) -> None:
    """Workers serve a system database that is not migrated yet; only the command that sets the policy is refused."""
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        maintenance.create("kataven_before_policy", "template0")
    with server.connect("kataven_before_policy") as connection:
        SYSTEM_SCHEMA.upgrade(connection, "system_0007")
    database = SystemDatabase(postgres.url("kataven_before_policy"))
    try:
        with database.writing() as session:
            servers.ensure_default(session)
            session.execute(
                text(
                    "INSERT INTO accounts (account_id, account_name, database_name, server, status)"
                    " VALUES ('acme', 'Acme', 'acme', 'default', 'active')"
                )
            )
        found = Directory(database, harness.services.revocation.guard).read("acme")
        assert found is not None
        assert found.rotate_after_days is None
        with pytest.raises(SystemSchemaBehind), database.writing() as session:
            rotation_policy.write(session, "acme", 90)
    finally:
        database.close()


def test_pepper_can_be_retired_once_its_keys_have_moved_to_the_current_one(
    harness: AppHarness,
) -> None:
    new_account(harness.services, "rotating")
    used, unused = harness.new_key("rotating"), harness.new_key("rotating")
    ring = "2099a:" + "bm5u" * 11 + "," + harness.environ["KATAVEN_PEPPERS"]
    assert PepperRing.parse(ring).current.id == "2099a"
    rotated = factory.create_api(settings.load({**harness.environ, "KATAVEN_PEPPERS": ring}))
    try:
        assert Caller(rotated, {"Authorization": f"Bearer {used}"}).get("/v1/me").status_code == 200
        rows = json.loads(flask(harness, "peppers", "status", "--by-account", "--json").stdout)
        assert {row["pepper"]: row["keys"] for row in rows if row["account"] == "rotating"} == {"2099a": 1, "dev1": 1}
        refused = flask(harness, "peppers", "retire", "dev1")
        assert refused.exit_code == 1
        assert "rotating (1)" in refused.stderr
        assert Caller(rotated, {"Authorization": f"Bearer {unused}"}).get("/v1/me").status_code == 200
        refused = flask(harness, "peppers", "retire", "dev1")
        assert "rotating" not in refused.stderr
    finally:
        rotated.extensions[EXTENSION].stop()


def test_unconfirmed_revocation_names_the_command_that_confirms_it(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_account(harness.services, "unconfirmed")

    def fail(_: object) -> None:
        raise RevocationUnconfirmed

    with monkeypatch.context() as outage:
        outage.setattr(harness.services.revocation, "revoke", fail)
        refused = flask(harness, "accounts", "suspend", "unconfirmed")
    assert refused.exit_code == 1
    assert "`flask revocation flush`" in refused.output
    flushed = run_json(harness, "revocation", "flush")
    assert flushed["workers"] == flushed["acknowledged"] == 1


def test_email_domains_are_set_shown_and_removed(harness: AppHarness) -> None:
    new_account(harness.services, "with-domains")
    command = ("accounts", "email-domains", "with-domains")
    assert run_json(harness, *command)["email_domains"] == []
    assert run_json(harness, *command, "Example.COM", "münchen.example")["email_domains"] == [
        "example.com",
        "xn--mnchen-3ya.example",
    ]
    assert run_json(harness, *command)["email_domains"] == ["example.com", "xn--mnchen-3ya.example"]
    assert audit_events(harness, "with-domains")[-1] == {
        "action": "account.policy_changed",
        "email_domains": ["example.com", "xn--mnchen-3ya.example"],
    }
    assert run_json(harness, *command, "--none")["email_domains"] == []


@pytest.mark.parametrize("domain", ["ada@example.com", "example", "x-.com", "exa mple.com", "192.0.2.1", ""])
def test_invalid_email_domain_is_refused_and_nothing_is_changed(harness: AppHarness, domain: str) -> None:
    result = flask(harness, "accounts", "email-domains", "acme", "valid.example", domain)
    assert result.exit_code == 1
    assert "is not a domain" in result.output
    assert "valid.example" not in run_json(harness, "accounts", "email-domains", "acme")["email_domains"]


def test_email_domains_of_an_unknown_account_are_refused(harness: AppHarness) -> None:
    for given in ((), ("x.example",)):
        assert flask(harness, "accounts", "email-domains", "nobody-there", *given).exit_code == 1
