"""`kataven keys`: an operator creates, lists and revokes API keys, without an identity provider."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from kataven import assembly, settings
from kataven.account.expiry import Expiry
from kataven.account.key_search import KeyFilter, search
from kataven.account.key_status import KeyStatus
from kataven.account.models import AuditEvent
from kataven.authservice.remembered_accounts import RememberingVerifier
from kataven.authservice.server import AuthServer, AuthService
from kataven.commands import keys as commands
from kataven.commands.program_services import ProgramServices
from kataven.identity.errors import VerifierUnavailable
from kataven.identity.scopes import READ_ONLY
from kataven.identity.token import TokenKind
from kataven.operations import account_status, keys
from kataven.operations.operator import Operator
from kataven.revocation import RevocationUnconfirmed
from kataven.system import accounts, journal, operators
from kataven.system.errors import NoSuchAccount, SystemDatabaseUnavailable
from kataven.system.models import AccountStatus
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.support.auth_service import remote_environ
from tests.support.gunicorn import CHECKOUT
from tests.support.program import kataven, kataven_json

ACCOUNT = "keys-of-operators"


@pytest.fixture(scope="module")
def account(harness: AppHarness) -> str:
    new_account(harness.services, ACCOUNT)
    return ACCOUNT


def events(harness: AppHarness, action: str, account: str = ACCOUNT) -> list[dict[str, Any]]:
    """Events of the operator audit log, newest first."""
    with harness.services.directory.database.reading() as session:
        found = operators.listing(session, 20, account=account, action=action)
        return [{"actor": event.actor, **event.detail} for event in found]


def account_events(harness: AppHarness, action: str, account: str = ACCOUNT) -> list[AuditEvent]:
    """Events of the account's own audit log, newest first."""
    record = harness.services.directory.read(account)
    assert record is not None
    with harness.services.registry.reading(record.tenant) as session:
        found = session.query(AuditEvent).filter_by(action=action).order_by(AuditEvent.created_at.desc())
        return list(found)


def caller(harness: AppHarness, key: str) -> Caller:
    return harness.bearer(key)


def test_created_key_works_and_is_printed_once(harness: AppHarness, account: str) -> None:
    result = kataven(harness, "keys", "create", "--account", account, "--name", "first")
    assert result.exit_code == 0, result.output
    key = result.stdout.strip()
    assert caller(harness, key).get("/v1/me").get_json()["account"] == account
    assert key not in result.stderr
    assert "never expires" in result.stderr
    assert key not in kataven(harness, "keys", "list", "--account", account).output


def test_both_audit_logs_record_a_new_key_without_its_secret(harness: AppHarness, account: str) -> None:
    created = kataven_json(harness, "keys", "create", "--account", account, "--name", "audited", "--expires", "30d")
    event = events(harness, keys.CREATED)[0]
    assert (event["actor"], event["key_id"], event["name"]) == ("cli", created["id"], "audited")
    own = account_events(harness, "api_key.created")[0]
    assert (own.actor, own.target) == ("operator:cli", created["id"])
    assert created["key"] not in json.dumps([event, own.detail])
    assert created["key"][-20:-8] not in json.dumps([event, own.detail])


def test_default_expiry_is_the_longest_that_the_policy_allows(harness: AppHarness) -> None:
    new_account(harness.services, "keys-with-policy")
    kataven_json(harness, "accounts", "policy", "keys-with-policy", "--max-key-expiry-days", "90")
    create = ("keys", "create", "--account", "keys-with-policy", "--name", "x")
    created = kataven_json(harness, *create)
    assert created["expires_at"] is not None
    refused = kataven(harness, *create, "--expires", "1y")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "at most 90 days" in refused.stderr


@pytest.mark.parametrize("form", ["id", "secret"])
def test_revoked_key_is_refused_and_the_receipt_is_printed(harness: AppHarness, account: str, form: str) -> None:
    created = kataven_json(harness, "keys", "create", "--account", account, "--name", f"leaked by {form}")
    leaked = caller(harness, created["key"])
    assert leaked.get("/v1/me").status_code == 200
    if form == "id":
        receipt = kataven_json(harness, "keys", "revoke", created["id"], "--account", account)
    else:
        receipt = kataven_json(harness, "keys", "revoke", "--secret-stdin", stdin=f"  {created['key']}\n")
    assert leaked.get("/v1/me").get_json()["code"] == "revoked_credential"
    assert receipt["workers"] == receipt["acknowledged"] == 1
    assert receipt["revoked"] == created["id"]
    event = events(harness, keys.REVOKED)[0]
    assert (event["actor"], event["key_id"], event["name"]) == ("cli", created["id"], f"leaked by {form}")
    assert event["receipt"]["acknowledged"] == 1
    own = account_events(harness, "api_key.revoked")[0]
    assert (own.actor, own.target, own.detail["receipt"]) == ("operator:cli", created["id"], event["receipt"])
    with harness.services.directory.database.reading() as session:
        assert created["id"] in journal.of_account(session, account)


def test_revoking_again_prints_a_receipt_again(harness: AppHarness, account: str) -> None:
    created = kataven_json(harness, "keys", "create", "--account", account, "--name", "twice")
    words = ("keys", "revoke", created["id"], "--account", account)
    first = kataven(harness, *words)
    again = kataven(harness, *words)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "already revoked" in again.stderr
    assert "already revoked" not in first.stderr
    assert "acknowledged" in again.stdout


def test_without_a_receipt_the_exit_status_is_1_and_a_repetition_completes(
    harness: AppHarness, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = kataven_json(harness, "keys", "create", "--account", account, "--name", "no receipt")

    def fail(_: object) -> None:
        raise RevocationUnconfirmed

    with monkeypatch.context() as outage:
        outage.setattr(harness.services.revocation, "revoke", fail)
        refused = kataven(harness, "keys", "revoke", created["id"], "--account", account)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "`kataven revocation flush`" in refused.stderr
    assert kataven_json(harness, "keys", "revoke", created["id"], "--account", account)["acknowledged"] == 1
    assert account_events(harness, "api_key.revoked")[0].detail["receipt"]["acknowledged"] == 1


def test_receipt_is_printed_even_if_the_operator_audit_log_is_unavailable(
    harness: AppHarness, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = kataven_json(harness, "keys", "create", "--account", account, "--name", "unlogged")

    def fail(*_: object, **__: object) -> None:
        raise SystemDatabaseUnavailable

    monkeypatch.setattr(operators, "record", fail)
    result = kataven(harness, "keys", "revoke", created["id"], "--account", account)
    assert result.exit_code == 0
    assert "acknowledged" in result.stdout
    assert "the operator audit log was unavailable" in result.stderr


def test_key_in_place_of_its_id_is_refused_and_never_repeated(harness: AppHarness, account: str) -> None:
    key = harness.new_key(account)
    for words in (
        ("keys", "revoke", key, "--account", account),
        ("keys", "show", key, "--account", account),
        ("accounts", "key-limits", account, key),
        ("limits", "show", "--account", account, "--key", key),
    ):
        refused = kataven(harness, *words)
        assert (refused.exit_code, refused.stdout) == (2, ""), words
        assert key[-20:] not in refused.output
        assert "--secret-stdin" in refused.stderr
    assert caller(harness, key).get("/v1/me").status_code == 200


@pytest.mark.parametrize(
    ("words", "stdin", "status", "message"),
    [
        ((), None, 2, "Pass either KEY_ID"),
        ((str(uuid4()), "--secret-stdin"), "x\n", 2, "Pass either KEY_ID"),
        ((str(uuid4()),), None, 2, "Missing --account"),
        ((str(uuid4()), "--account", ACCOUNT), None, 1, "no such API key"),
        ((str(uuid4()), "--account", "typo"), None, 1, "Account 'typo' does not exist"),
        (("--secret-stdin",), "", 1, ""),
        (("--secret-stdin",), "sk_live_acme_short\n", 1, ""),
    ],
)
def test_wrong_revocation_is_a_one_line_error(
    harness: AppHarness, account: str, words: tuple[str, ...], stdin: str | None, status: int, message: str
) -> None:
    refused = kataven(harness, "keys", "revoke", *words, stdin=stdin)
    assert (refused.exit_code, refused.stdout) == (status, ""), refused.output
    assert message in refused.stderr
    assert "Traceback" not in refused.output
    assert "short" not in refused.output


def test_secret_of_another_account_or_kind_or_an_unknown_one_revokes_nothing(harness: AppHarness, account: str) -> None:
    key = harness.new_key(account)
    refused = kataven(harness, "keys", "revoke", "--secret-stdin", "--account", "globex", stdin=key)
    assert refused.exit_code == 1
    assert f"belongs to the account '{account}'" in refused.stderr
    assert caller(harness, key).get("/v1/me").status_code == 200
    widget = harness.services.issuer.issue(TokenKind.WIDGET_KEY, account).text
    assert "is a widget key" in kataven(harness, "keys", "revoke", "--secret-stdin", stdin=widget).stderr
    unstored = harness.services.issuer.issue(TokenKind.API_KEY, account).text
    refused = kataven(harness, "keys", "revoke", "--secret-stdin", stdin=unstored)
    assert (refused.exit_code, "no such API key" in refused.stderr) == (1, True)
    assert unstored not in refused.output


def test_key_of_a_suspended_account_can_be_revoked_but_not_created(harness: AppHarness) -> None:
    new_account(harness.services, "keys-suspended")
    key = kataven_json(harness, "keys", "create", "--account", "keys-suspended", "--name", "x")
    kataven_json(harness, "accounts", "suspend", "keys-suspended")
    refused = kataven(harness, "keys", "create", "--account", "keys-suspended", "--name", "y")
    assert (refused.exit_code, "must be active" in refused.stderr) == (1, True)
    assert kataven_json(harness, "keys", "revoke", key["id"], "--account", "keys-suspended")["acknowledged"] == 1


def test_list_filters_by_name_id_end_and_status(harness: AppHarness) -> None:
    new_account(harness.services, "keys-listed")
    ids = {}
    for name in ("alpha", "beta 100%", "[red]gamma"):
        ids[name] = kataven_json(harness, "keys", "create", "--account", "keys-listed", "--name", name)
    kataven_json(harness, "keys", "revoke", ids["alpha"]["id"], "--account", "keys-listed")
    lists = ("keys", "list", "--account", "keys-listed")

    def names(*words: str) -> set[str]:
        return {row["name"] for row in kataven_json(harness, *lists, *words)}

    assert names() == set(ids)
    assert names("--search", "BETA") == {"beta 100%"}
    assert names("--search", "%") == {"beta 100%"}
    assert names("--search", ids["alpha"]["id"]) == {"alpha"}
    assert names("--search", ids["alpha"]["hint"]) == {"alpha"}
    assert names("--status", "revoked") == {"alpha"}
    assert names("--status", "active") == {"beta 100%", "[red]gamma"}
    assert names("--status", "expired") == set()
    limited = kataven(harness, *lists, "--limit", "2")
    assert "More than 2 keys match" in limited.stderr
    assert "[red]gamma" in kataven(harness, *lists).stdout, "a name must not be read as markup"
    assert "No keys match" in kataven(harness, *lists, "--search", "nothing").stdout
    shown = kataven_json(harness, "keys", "show", ids["alpha"]["id"], "--account", "keys-listed")
    assert (shown["status"], shown["revoked_by"], shown["pepper"]) == ("revoked", "operator:cli", "dev1")


def test_key_is_created_with_scopes_and_conditions(harness: AppHarness, account: str) -> None:
    options = ["--scope", "agents:write", "--scope", "agents:read", "--allow-address", "192.0.2.7", "--from-browsers"]
    created = kataven_json(harness, "keys", "create", "--account", account, "--name", "Scoped", *options)
    assert (created["scopes"], created["allowed_addresses"]) == (["agents:write"], ["192.0.2.7/32"])
    caller = harness.bearer(created["key"])
    assert caller.get("/v1/me").get_json()["code"] == "address_not_allowed"
    environ = {"REMOTE_ADDR": "192.0.2.7"}
    assert (
        caller.get("/v1/agents", headers={"Origin": "https://acme.com"}, environ_overrides=environ).status_code == 200
    )
    assert caller.get("/v1/widget-keys", environ_overrides=environ).get_json()["code"] == "insufficient_scope"
    assert events(harness, keys.CREATED)[0]["rules"]["scopes"] == ["agents:write"]
    shown = kataven(harness, "keys", "list", "--account", account, "--search", "Scoped").stdout
    assert "agents:write" in shown


def test_read_only_key_has_every_reading_scope(harness: AppHarness, account: str) -> None:
    created = kataven_json(harness, "keys", "create", "--account", account, "--name", "Reader", "--read-only")
    assert created["scopes"] == list(READ_ONLY)
    caller = harness.bearer(created["key"])
    assert caller.get("/v1/agents").status_code == 200
    assert caller.post("/v1/agents", {"name": "x"}).get_json()["code"] == "insufficient_scope"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scope", "agents:reed"], "'agents:reed' is not a scope. The scopes are agents:read"),
        (["--scope", "agents:read", "--read-only"], "either --scope or --read-only"),
        (["--allow-address", "acme.com"], "must be an IP address"),
        (["--deny-address", "192.0.2.7/24"], "did you mean 192.0.2.0/24?"),
    ],
)
def test_wrong_rules_create_no_key(harness: AppHarness, account: str, options: list[str], message: str) -> None:
    done = kataven(harness, "keys", "create", "--account", account, "--name", "Wrong", *options)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert kataven_json(harness, "keys", "list", "--account", account, "--search", "Wrong") == []


def test_key_is_paused_and_resumed_with_receipts(harness: AppHarness, account: str) -> None:
    created = kataven_json(harness, "keys", "create", "--account", account, "--name", "Pausable")
    caller, about = harness.bearer(created["key"]), (created["id"], "--account", account)
    assert caller.get("/v1/me").status_code == 200
    paused = kataven_json(harness, "keys", "pause", *about)
    assert (paused["paused"], paused["acknowledged"]) == (created["id"], 1)
    (event,) = account_events(harness, "api_key.paused")
    assert (event.target, event.detail["receipt"]["acknowledged"]) == (created["id"], 1)
    assert caller.get("/v1/me").get_json()["code"] == "paused_credential"
    listed = kataven_json(harness, "keys", "list", "--account", account, "--status", "paused")
    assert [key["id"] for key in listed] == [created["id"]]
    assert kataven_json(harness, "keys", "resume", *about)["acknowledged"] == 1
    assert caller.get("/v1/me").status_code == 200
    assert [events(harness, action)[0]["key_id"] for action in (keys.PAUSED, keys.RESUMED)] == [created["id"]] * 2
    kataven_json(harness, "keys", "revoke", *about)
    refused = kataven(harness, "keys", "resume", *about)
    assert (refused.exit_code, "revoked" in refused.stderr) == (1, True)


def test_expired_key_is_listed_as_expired(harness: AppHarness, account: str) -> None:
    harness.new_key(account, name="long gone", expires_at=datetime.now(UTC) - timedelta(days=1))
    rows = kataven_json(harness, "keys", "list", "--account", account, "--status", "expired")
    assert [row["name"] for row in rows] == ["long gone"]


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "x" * 201, "\x1b[31mred", "\u202egnp.exe"])
def test_unreadable_name_is_refused(harness: AppHarness, account: str, name: str) -> None:
    refused = kataven(harness, "keys", "create", "--account", account, "--name", name)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--name" in refused.stderr


def test_control_characters_of_a_name_do_not_reach_the_terminal(harness: AppHarness, account: str) -> None:
    harness.new_key(account, name="\x1b[2Jcleared")
    output = kataven(harness, "keys", "list", "--account", account, "--search", "cleared").stdout
    assert "[2Jcleared" in output
    assert "\x1b" not in output


def test_key_that_is_created_during_a_policy_change_is_covered_by_it(harness: AppHarness) -> None:
    """The account's row is locked until the key is committed, so the policy change waits and shortens the key."""
    new_account(harness.services, "keys-raced")
    operator = Operator("test", harness.services)
    database = harness.services.directory.database
    blocked: list[str] = []

    def try_to_change_the_policy(_: object) -> None:
        with pytest.raises(SystemDatabaseUnavailable), database.writing() as session:  # noqa: PT012
            session.connection().exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
            accounts.read(session, "keys-raced", lock=True)
        blocked.append("waited")

    created = keys.create(operator, "keys-raced", "raced", Expiry.NEVER, condition=try_to_change_the_policy)
    assert blocked == ["waited"]
    shortened, _ = account_status.change_key_policy(operator, "keys-raced", 30, existing=True)
    assert shortened == 1
    assert keys.read(operator, "keys-raced", created.key.id).expires_at is not None


def test_key_is_not_created_for_an_account_that_is_being_deleted(harness: AppHarness) -> None:
    new_account(harness.services, "keys-deleting")
    with harness.services.directory.database.writing() as session:
        accounts.move(session, "keys-deleting", AccountStatus.DELETING, AccountStatus.ACTIVE)
    with pytest.raises(NoSuchAccount):
        keys.create(Operator("test", harness.services), "keys-deleting", "late")


def test_statuses_on_the_command_line_are_those_of_keys() -> None:
    assert [str(status) for status in KeyStatus] == list(commands.STATUSES)


# Without peppers in this process.


@pytest.fixture
def auth_service(harness: AppHarness) -> Iterator[AuthServer]:
    configured = settings.load(harness.environ)
    parts = assembly.foundation(configured)
    verifier = RememberingVerifier(assembly.local_verifier(configured, parts))
    server = AuthServer(AuthService(verifier, harness.services.issuer), "127.0.0.1:0")
    server.start()
    yield server
    server.stop()
    parts.registry.close()
    parts.directory.database.close()


def test_keys_are_created_and_found_through_the_auth_service(
    harness: AppHarness, account: str, auth_service: AuthServer
) -> None:
    environ = remote_environ(harness.environ, f"127.0.0.1:{auth_service.port}")
    services = ProgramServices(settings.load(environ))
    operator = Operator("remote", services)
    created = keys.create(operator, account, "without peppers")
    assert caller(harness, created.text).get("/v1/me").status_code == 200
    found, key = keys.find_by_secret(operator, created.text)
    assert (found, key.id) == (account, created.key.id)
    assert keys.revoke(operator, account, key.id).receipt.acknowledged == 1
    assert caller(harness, created.text).get("/v1/me").status_code == 403
    auth_service.stop()
    with pytest.raises(VerifierUnavailable):
        keys.create(operator, account, "unavailable")
    services.close()


def test_unused_status_filter_matches_everything(harness: AppHarness, account: str) -> None:
    record = harness.services.directory.read(account)
    assert record is not None
    with harness.services.registry.reading(record.tenant) as session:
        every = search(session, 1_000, None, KeyFilter()).rows
        by_status = [key for status in KeyStatus for key in search(session, 1_000, None, KeyFilter(status=status)).rows]
    assert sorted(key.id for key in by_status) == sorted(key.id for key in every)


def test_key_that_is_typed_on_a_terminal_is_not_shown(harness: AppHarness, account: str) -> None:
    key = harness.new_key(account, name="typed")
    ours, theirs = os.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "kataven", "keys", "revoke", "--secret-stdin"],
        cwd=CHECKOUT,
        env={**os.environ, **harness.environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    while b"API key" not in shown:
        shown += os.read(ours, 1024)
    os.write(ours, f"{key}\n".encode())
    with contextlib.suppress(OSError):  # the terminal is closed when the program exits
        while part := os.read(ours, 1024):
            shown += part
    os.close(ours)
    assert program.wait(60) == 0, shown
    assert key.encode()[-20:-8] not in shown
    assert b"acknowledged" in shown
    assert caller(harness, key).get("/v1/me").status_code == 403
