"""Every operation that revokes credentials commits first and calls the same function; a new one must be listed here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import click
import pytest

from kataven.account.models import ApiKey, WidgetKey
from kataven.dev.personas import BOB
from kataven.identity.people import UNRESTRICTED
from kataven.revocation.receipt import Receipt
from kataven.revocation.revocation import Intent
from kataven.revocation.target import RevocationTarget
from kataven.system import accounts, cutoffs, operators
from kataven.system.fallback_channel import SystemFallbackChannel
from kataven.tenancy.databases.provision import Reservation
from kataven.web.operation import operation_of
from tests.support.app_harness import AppHarness, Caller, new_account

HARMLESS_ROUTES = {
    ("POST", "/v1/agents"),
    ("PATCH", "/v1/agents/<agent_id>"),
    ("DELETE", "/v1/agents/<agent_id>"),
    ("PATCH", "/v1/agents/<agent_id>/widget-settings"),
    ("POST", "/v1/api-keys"),
    ("POST", "/v1/widget-keys"),
    ("POST", "/v1/api-keys/<key_id>/rotate"),  # revokes only an unused secret: see tests/api/test_rotation.py
    ("PATCH", "/v1/api-keys/<key_id>/former-secret"),  # likewise
    ("PATCH", "/v1/widget-settings"),
    ("POST", "/v1/widget/auth/guest"),
    ("POST", "/v1/widget/auth/user-token"),
    ("POST", "/v1/widget/auth/exchange"),
    ("POST", "/v1/widget/auth/refresh"),
    ("DELETE", "/v1/people/<person_id>/block"),
    ("POST", "/v1/api-keys/<key_id>/revoke-preview"),
}
HARMLESS_COMMANDS = {
    *("create", "list", "show", "limits", "key-limits", "email-domains", "repair", "dump", "shell", "import-csv"),
}

Revoked = list[tuple[RevocationTarget, bool, bool]]


@pytest.fixture
def revoked(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> Revoked:
    """Each revoked target, whether another connection saw the commit by then, and whether the intent was recorded."""
    calls: Revoked = []
    revoke: Callable[[Intent | RevocationTarget], Receipt] = harness.services.revocation.revoke

    def recorded(intent: Intent | RevocationTarget) -> Receipt:
        target = intent if isinstance(intent, RevocationTarget) else intent.target
        calls.append((target, _is_committed(harness, target), _has_intent(harness, target)))
        return revoke(intent)

    monkeypatch.setattr(harness.services.revocation, "revoke", recorded)
    return calls


def _is_committed(harness: AppHarness, target: RevocationTarget) -> bool:
    assert target.account is not None
    if target.subject is not None:
        with harness.services.directory.database.reading() as session:
            return cutoffs.read(session, target.account, target.subject)[0] != UNRESTRICTED
    with harness.services.directory.database.reading() as session:
        row = accounts.read(session, target.account)
    if target.key_id is None:
        return row.status != "active" or row.max_key_expiry_days is not None
    record = harness.services.directory.read(target.account)
    assert record is not None
    with harness.services.registry.reading(record.tenant) as session:
        key: Any = session.get(ApiKey, target.key_id)
        widget_key: Any = session.get(WidgetKey, target.key_id)
        stopped = key is None or key.disabled_at is not None or key.columns["paused_at"] is not None
        return stopped and (widget_key is None or not _serves_pages(widget_key))


def _has_intent(harness: AppHarness, target: RevocationTarget) -> bool:
    overdue = SystemFallbackChannel(harness.services.directory.database).read_state(0).overdue
    return any(intent.covers(target) for intent in overdue)  # the intent of a user covers the account


def _serves_pages(key: WidgetKey) -> bool:
    return key.disabled_at is None and bool(key.domain_allowlist) and key.agent_id is None


def _new_key(alice: Caller) -> str:
    return str(alice.post("/v1/api-keys", {"name": "Doomed", "expiry": "30d"}).get_json()["id"])


def test_every_changing_route_is_listed_as_revoking_or_harmless(harness: AppHarness) -> None:
    changing = set()
    for rule in harness.app.url_map.iter_rules():
        operation = operation_of(harness.app.view_functions[rule.endpoint])
        if operation is not None and operation.method != "GET":
            changing.add((operation.method, operation.path))
    assert changing - HARMLESS_ROUTES == {
        *((verb, f"/v1/{kind}/<key_id>") for verb in ("PATCH", "DELETE") for kind in ("api-keys", "widget-keys")),
        ("POST", "/v1/api-keys/bulk"),
        ("POST", "/v1/people/<person_id>/end-sessions"),
        ("PUT", "/v1/people/<person_id>/block"),
    }


@pytest.mark.parametrize(("verb", "action"), [("POST", "end-sessions"), ("PUT", "block")])
def test_ending_a_users_access_commits_before_the_revocation(
    harness: AppHarness, alice: Caller, revoked: Revoked, verb: str, action: str
) -> None:
    dana = replace(BOB, subject=f"dana-{uuid4()}")
    assert harness.user(dana).get("/v1/me").status_code == 200
    harness.services.people_seen.flush()
    person = harness.services.people.person(dana.subject).id
    answer = alice.call(verb, f"/v1/people/{person}/{action}", json={} if verb == "PUT" else None)
    assert answer.get_json()["receipt"]["acknowledged"] == 1
    assert revoked == [(RevocationTarget("acme", subject=person), True, True)]


@pytest.mark.parametrize("verb", ["PATCH", "DELETE"])
def test_revoking_a_key_commits_before_the_revocation(alice: Caller, revoked: Revoked, verb: str) -> None:
    key_id = _new_key(alice)
    answer = alice.call(verb, f"/v1/api-keys/{key_id}", json={"disabled": True} if verb == "PATCH" else None)
    assert answer.get_json()["receipt"]["acknowledged"] == 1
    assert revoked == [(RevocationTarget("acme", key_id), True, True)]


def _new_widget_key(alice: Caller) -> str:
    return str(alice.post("/v1/widget-keys", {"name": "Doomed", "domain_allowlist": ["acme.com"]}).get_json()["id"])


@pytest.mark.parametrize("body", [{"disabled": True}, {"domain_allowlist": []}, {"agent_id": ...}, None], ids=str)
def test_restricting_a_widget_key_commits_before_the_revocation(
    alice: Caller, revoked: Revoked, body: dict[str, Any] | None
) -> None:
    key_id = _new_widget_key(alice)
    if body is not None and "agent_id" in body:
        body = {"agent_id": alice.post("/v1/agents", {"name": "Pinned"}).get_json()["id"]}
    answer = alice.call("DELETE" if body is None else "PATCH", f"/v1/widget-keys/{key_id}", json=body)
    assert answer.get_json()["receipt"]["acknowledged"] == 1
    assert revoked == [(RevocationTarget("acme", key_id), True, True)]


@pytest.mark.parametrize("body", [{"name": "Spared"}, {"domain_allowlist": ["acme.com", "*.acme.com"]}, {}], ids=str)
def test_extending_a_widget_key_revokes_nothing(alice: Caller, revoked: Revoked, body: dict[str, Any]) -> None:
    assert "receipt" not in alice.patch(f"/v1/widget-keys/{_new_widget_key(alice)}", body).get_json()
    assert revoked == []


def test_renaming_a_key_revokes_nothing(alice: Caller, revoked: Revoked) -> None:
    assert alice.patch(f"/v1/api-keys/{_new_key(alice)}", {"name": "Spared"}).status_code == 200
    assert revoked == []


def test_every_account_command_is_listed_as_revoking_or_harmless(harness: AppHarness) -> None:
    group = harness.app.cli.commands["accounts"]
    assert isinstance(group, click.Group)
    assert set(group.commands) - HARMLESS_COMMANDS == {
        "suspend",
        "archive",
        "resume",
        "policy",
        "delete",
        "load",
        "restore",
    }


def test_every_command_for_keys_is_listed_as_revoking_or_harmless(harness: AppHarness) -> None:
    group = harness.app.cli.commands["keys"]
    assert isinstance(group, click.Group)
    # `rotate` revokes only an unused secret: see tests/commands/test_key_rotation.py.
    assert set(group.commands) - HARMLESS_COMMANDS - {"rotate"} == {"revoke", "pause", "resume", "end-former-secret"}


@pytest.mark.parametrize("by", ["api", "operator"])
def test_ending_a_former_secret_commits_before_the_revocation(
    harness: AppHarness, alice: Caller, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    key_id = _new_key(alice)
    assert alice.post(f"/v1/api-keys/{key_id}/rotate", {}).status_code == 200
    target = RevocationTarget("acme", key_id)
    revoke, calls = harness.services.revocation.revoke, []

    def recorded(intent: Intent | RevocationTarget) -> Receipt:
        [former] = alice.get(f"/v1/api-keys?q={key_id}").get_json()[0]["former_secrets"]
        found = intent if isinstance(intent, RevocationTarget) else intent.target
        calls.append((found, former["ends_at"] is not None, _has_intent(harness, target)))
        return revoke(intent)

    monkeypatch.setattr(harness.services.revocation, "revoke", recorded)
    if by == "api":
        ended = alice.patch(f"/v1/api-keys/{key_id}/former-secret", {"ends_in_seconds": 0})
        assert ended.get_json()["receipt"]["acknowledged"] == 1
    else:
        words = ["keys", "end-former-secret", key_id, "--account", "acme"]
        result = harness.app.test_cli_runner().invoke(args=words)
        assert result.exit_code == 0, result.output
    assert calls == [(target, True, True)]


@pytest.mark.parametrize("by", ["api", "operator"])
def test_pausing_a_key_commits_before_the_revocation(
    harness: AppHarness, alice: Caller, revoked: Revoked, by: str
) -> None:
    key_id = _new_key(alice)
    if by == "api":
        answer = alice.patch(f"/v1/api-keys/{key_id}", {"paused": True})
        assert answer.get_json()["receipt"]["acknowledged"] == 1
    else:
        result = harness.app.test_cli_runner().invoke(args=["keys", "pause", key_id, "--account", "acme"])
        assert result.exit_code == 0, result.output
    assert revoked == [(RevocationTarget("acme", key_id), True, True)]


@pytest.mark.parametrize("action", ["revoke", "pause"])
def test_changing_several_keys_commits_before_the_revocation(
    harness: AppHarness, alice: Caller, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    ids = [_new_key(alice) for _ in range(2)]
    revoke_together = harness.services.revocation.revoke_together
    calls = []

    def recorded(intent: Intent, revoked_keys: Any) -> Receipt:
        committed = [_is_committed(harness, RevocationTarget("acme", key_id)) for key_id in ids]
        calls.append((intent.target, committed, _has_intent(harness, intent.target)))
        return revoke_together(intent, revoked_keys)

    monkeypatch.setattr(harness.services.revocation, "revoke_together", recorded)
    answer = alice.post("/v1/api-keys/bulk", {"action": action, "ids": ids})
    assert answer.get_json()["receipt"]["acknowledged"] == 1
    assert calls == [(RevocationTarget("acme"), [True, True], True)]


def test_revoking_a_key_as_an_operator_commits_before_the_revocation(
    harness: AppHarness, alice: Caller, revoked: Revoked
) -> None:
    key_id = _new_key(alice)
    result = harness.app.test_cli_runner().invoke(args=["keys", "revoke", key_id, "--account", "acme"])
    assert result.exit_code == 0, result.output
    assert revoked == [(RevocationTarget("acme", key_id), True, True)]


@pytest.mark.parametrize(
    "words",
    [
        ["suspend"],
        ["archive"],
        ["policy", "--max-key-expiry-days", "30", "--existing"],
        ["delete", "--yes-delete", "revoked-by-delete"],
    ],
    ids=lambda words: words[0],
)
def test_revoking_command_commits_before_the_revocation(
    harness: AppHarness, revoked: Revoked, words: list[str]
) -> None:
    account = f"revoked-by-{words[0]}"
    new_account(harness.services, account)
    result = harness.app.test_cli_runner().invoke(args=["accounts", words[0], account, *words[1:]])
    assert result.exit_code == 0, result.output
    assert revoked
    assert set(revoked) == {(RevocationTarget(account), True, True)}


def test_deletion_revokes_before_the_database_is_dropped(
    harness: AppHarness, revoked: Revoked, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_account(harness.services, "outlived")
    dropped: list[int] = []
    drop = Reservation.drop

    def recorded(reservation: Reservation) -> None:
        dropped.append(len(revoked))
        drop(reservation)

    monkeypatch.setattr(Reservation, "drop", recorded)
    result = harness.app.test_cli_runner().invoke(args=["accounts", "delete", "outlived", "--yes-delete", "outlived"])
    assert result.exit_code == 0, result.output
    assert dropped == [1]


def test_loading_a_dump_commits_before_the_revocation(harness: AppHarness, revoked: Revoked) -> None:
    new_account(harness.services, "revoked-by-load")
    run = harness.app.test_cli_runner().invoke
    dump = json.loads(run(args=["accounts", "dump", "revoked-by-load", "--json"]).stdout)["dump"]
    run(args=["accounts", "suspend", "revoked-by-load"])
    revoked.clear()
    loaded = run(args=["accounts", "load", "revoked-by-load", "--from", dump, "--yes-replace", "revoked-by-load"])
    assert loaded.exit_code == 0, loaded.output
    assert revoked == [(RevocationTarget("revoked-by-load"), True, True)]


@pytest.mark.parametrize("word", ["suspend", "archive", "resume"])
def test_interrupted_command_gets_its_receipt_when_repeated(
    harness: AppHarness, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    account = f"cut-off-{word}"
    new_account(harness.services, account)
    run = harness.app.test_cli_runner().invoke
    if word == "resume":
        run(args=["accounts", "suspend", account])
    with monkeypatch.context() as patch:
        patch.setattr(harness.services.revocation, "revoke", _die)
        with pytest.raises(ProcessDied):
            run(args=["accounts", word, account])
    again = run(args=["accounts", word, account, "--json"])
    assert again.exit_code == 0, again.output
    with harness.services.directory.database.reading() as session:
        action = {"suspend": "account.suspended", "archive": "account.archived", "resume": "account.resumed"}[word]
        events = [one for one in operators.listing(session, 10, account=account) if one.action == action]
    assert len(events) == 1
    assert events[0].detail["receipt"]["acknowledged"] == 1
    third = run(args=["accounts", word, account])
    assert third.exit_code == 1, "the third command has nothing left to complete"


def test_interrupted_request_gets_its_receipt_when_repeated(
    harness: AppHarness, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"api-keys": _new_key(alice), "widget-keys": _new_widget_key(alice)}
    for kind, key_id in keys.items():
        with monkeypatch.context() as patch:
            patch.setattr(harness.services.revocation, "revoke", _die)
            with pytest.raises(ProcessDied):
                alice.patch(f"/v1/{kind}/{key_id}", {"disabled": True})
        assert _receipts_in_the_audit_log(alice, key_id) == []
        receipt = alice.patch(f"/v1/{kind}/{key_id}", {"disabled": True}).get_json()["receipt"]
        assert _receipts_in_the_audit_log(alice, key_id) == [receipt]
        assert "receipt" in alice.patch(f"/v1/{kind}/{key_id}", {"disabled": True}).get_json()
        assert _receipts_in_the_audit_log(alice, key_id) == [receipt]  # the third request has nothing left to complete


def _receipts_in_the_audit_log(alice: Caller, key_id: str) -> list[Any]:
    events = alice.get("/v1/audit-events?limit=50").get_json()
    return [
        {"id": one["id"], **one["detail"]["receipt"]}
        for one in events
        if one["target"] == key_id and "receipt" in one["detail"]
    ]


class ProcessDied(BaseException):
    """The revoking process was killed."""


def _die(*_: Any) -> Receipt:
    raise ProcessDied
