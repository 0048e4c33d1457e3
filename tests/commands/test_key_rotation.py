"""`kataven keys rotate` and `end-former-secret`: an operator rotates a key without an identity provider."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from kataven.identity.errors import VerifierUnavailable
from kataven.operations import key_rotation
from kataven.revocation.target import secrets_of
from kataven.system import operators
from kataven.system.journal import of_account
from tests.api.test_rotation import ACCEPTED, ROTATED, outcome
from tests.commands.test_keys import account_events, events
from tests.support.app_harness import AppHarness, new_account
from tests.support.program import kataven, kataven_json

ACCOUNT = "keys-that-rotate"


@pytest.fixture(scope="module")
def account(harness: AppHarness) -> str:
    new_account(harness.services, ACCOUNT)
    return ACCOUNT


def created(harness: AppHarness, account: str, *more: str) -> tuple[str, str]:
    """The id and the secret of a new key."""
    found = kataven_json(harness, "keys", "create", "--account", account, "--name", "rotated", *more)
    return found["id"], found["key"]


def test_rotated_key_has_two_secrets_until_the_former_one_is_ended(harness: AppHarness, account: str) -> None:
    key_id, old = created(harness, account)
    result = kataven(harness, "keys", "rotate", key_id, "--account", account, "--grace-seconds", "60")
    assert result.exit_code == 0, result.output
    new = result.stdout.strip()
    assert f"The secret that ends in {old[-8:]} is accepted" in result.stderr
    assert new not in result.stderr
    assert (outcome(harness, old), outcome(harness, new)) == (ACCEPTED, ACCEPTED)

    shown = kataven_json(harness, "keys", "show", key_id, "--account", account)
    assert (shown["hint"], shown["former_secrets"][0]["hint"]) == (new[-8:], old[-8:])
    receipt = kataven_json(harness, "keys", "end-former-secret", key_id, "--account", account)
    assert (receipt["workers"], receipt["acknowledged"], receipt["former_secret_ended"]) == (1, 1, key_id)
    assert (outcome(harness, old), outcome(harness, new)) == (ROTATED, ACCEPTED)
    again = kataven_json(harness, "keys", "end-former-secret", key_id, "--account", account)
    assert again["acknowledged"] == 1
    with harness.services.directory.database.reading() as session:
        journalled = of_account(session, account)
    assert key_id not in journalled
    assert journalled[secrets_of(key_id)] == 1


def test_unused_secret_is_replaced_with_a_receipt(harness: AppHarness, account: str) -> None:
    key_id, old = created(harness, account)
    lost = kataven_json(harness, "keys", "rotate", key_id, "--account", account)
    assert lost["receipt"] is None
    found = kataven_json(harness, "keys", "rotate", key_id, "--account", account)
    assert found["receipt"]["acknowledged"] == 1
    assert [outcome(harness, secret) for secret in (old, lost["key"], found["key"])] == [ACCEPTED, ROTATED, ACCEPTED]


def test_both_audit_logs_record_a_rotation_without_secrets(harness: AppHarness, account: str) -> None:
    key_id, old = created(harness, account)
    new = kataven_json(harness, "keys", "rotate", key_id, "--account", account)["key"]
    kataven_json(harness, "keys", "end-former-secret", key_id, "--account", account)
    for action, own_action in (
        (key_rotation.ROTATED, "api_key.rotated"),
        (key_rotation.FORMER_SECRET_ENDED, "api_key.former_secret_ended"),
    ):
        event, own = events(harness, action, ACCOUNT)[0], account_events(harness, own_action, ACCOUNT)[0]
        assert (event["actor"], event["key_id"], event["hint"]) == ("cli", key_id, new[-8:])
        assert (own.actor, own.target) == ("operator:cli", key_id)
        for secret in (old, new):
            assert secret[:-8][-12:] not in json.dumps([event, own.detail])
    ended = events(harness, key_rotation.FORMER_SECRET_ENDED, ACCOUNT)[0]
    assert ended["receipt"]["acknowledged"] == 1
    assert account_events(harness, "api_key.former_secret_ended", ACCOUNT)[0].detail["receipt"] == ended["receipt"]


def test_former_secret_ends_later(harness: AppHarness, account: str) -> None:
    key_id, old = created(harness, account)
    kataven_json(harness, "keys", "rotate", key_id, "--account", account)
    kataven_json(harness, "keys", "end-former-secret", key_id, "--account", account, "--ends-in-seconds", "3600")
    assert outcome(harness, old) == ACCEPTED
    former = kataven_json(harness, "keys", "show", key_id, "--account", account)["former_secrets"][0]
    left = datetime.fromisoformat(former["ends_at"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(hours=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rotate", str(uuid4())), "no such API key"),
        (("end-former-secret", str(uuid4())), "no such API key"),
        (("rotate", "REVOKED"), "revoked API key can't be rotated"),
        (("end-former-secret", "UNROTATED", "--ends-in-seconds", "5"), "No former secret"),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_refusals_are_one_line(harness: AppHarness, account: str, words: tuple[str, ...], message: str) -> None:
    revoked, _ = created(harness, account)
    kataven_json(harness, "keys", "revoke", revoked, "--account", account)
    unrotated, _ = created(harness, account)
    names = {"REVOKED": revoked, "UNROTATED": unrotated}
    result = kataven(harness, "keys", *(names.get(word, word) for word in words), "--account", account)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message.lower() in result.stderr.lower()
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("grace", ["-1", "604801", "a day"])
def test_grace_period_is_validated(harness: AppHarness, account: str, grace: str) -> None:
    result = kataven(harness, "keys", "rotate", str(uuid4()), "--account", account, "--grace-seconds", grace)
    assert result.exit_code == 2
    assert "must be a whole number from 0 to 604800" in result.stderr


def test_secret_is_printed_if_the_operator_audit_log_is_unavailable(
    harness: AppHarness, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, _ = created(harness, account)

    def unavailable(*_: object) -> None:
        raise VerifierUnavailable("down")

    monkeypatch.setattr(operators, "record", unavailable)
    result = kataven(harness, "keys", "rotate", key_id, "--account", account)
    assert result.exit_code == 0
    assert outcome(harness, result.stdout.strip()) == ACCEPTED
    assert "operator audit log was unavailable" in result.stderr


def test_key_is_created_for_later(harness: AppHarness, account: str) -> None:
    _, key = created(harness, account, "--not-before", "2037-01-31T12:00")
    assert harness.bearer(key).get("/v1/me").get_json()["code"] == "credential_not_yet_valid"
    _, key = created(harness, account, "--not-before", "2026-01-31T12:00+02:00")
    assert outcome(harness, key) == ACCEPTED
    for wrong in ("tomorrow", "0001-01-01"):
        result = kataven(harness, "keys", "create", "--account", account, "--name", "x", "--not-before", wrong)
        assert result.exit_code == 2, wrong
