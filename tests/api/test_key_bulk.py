"""`POST /v1/api-keys/bulk`: several keys, one transaction, one receipt."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from kataven.system import journal
from tests.support.app_harness import AppHarness, Caller

BULK = "/v1/api-keys/bulk"


def create(harness: AppHarness, owner: Caller, count: int) -> dict[str, Caller]:
    """New keys that every worker has in its cache, by id."""
    found = {}
    for _ in range(count):
        created = owner.post("/v1/api-keys", {"name": "Many", "expiry": "30d"}).get_json()
        found[created["id"]] = harness.bearer(created["key"])
        assert found[created["id"]].get("/v1/me").status_code == 200
    return found


def change(owner: Caller, action: str, *ids: str) -> tuple[list[str], dict[str, Any] | None]:
    """The outcomes and the receipt."""
    response = owner.post(BULK, {"action": action, "ids": list(ids)})
    assert response.status_code == 200, response.text
    body = response.get_json()
    assert [one["id"] for one in body["results"]] == list(dict.fromkeys(ids))
    return [one["outcome"] for one in body["results"]], body["receipt"]


def codes(keys: dict[str, Caller]) -> set[str | None]:
    return {caller.get("/v1/me").get_json().get("code") for caller in keys.values()}


def events(owner: Caller, action: str, ids: dict[str, Caller]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = owner.get("/v1/audit-events?limit=100").get_json()
    return [event for event in found if event["action"] == action and event["target"] in ids]


def test_keys_are_paused_resumed_and_revoked_with_one_receipt(harness: AppHarness, alice: Caller) -> None:
    keys = create(harness, alice, 4)
    for action, expected in (("pause", "paused_credential"), ("resume", None), ("revoke", "revoked_credential")):
        outcomes, receipt = change(alice, action, *keys)
        assert outcomes == ["changed"] * 4
        assert receipt is not None
        assert receipt["workers"] == receipt["acknowledged"] >= 1
        assert codes(keys) == {expected}
        changed = events(alice, f"api_key.{action.removesuffix('e')}ed", keys)
        assert [event["detail"].get("receipt") for event in changed] == [receipt if expected else None] * 4


def test_each_key_has_its_own_outcome(harness: AppHarness, alice: Caller) -> None:
    keys = create(harness, alice, 3)
    active, paused, revoked = keys
    change(alice, "pause", paused)
    change(alice, "revoke", revoked)
    unknown = str(uuid4())
    outcomes, receipt = change(alice, "pause", unknown, active, paused, revoked, active)
    assert outcomes == ["not_found", "changed", "unchanged", "revoked"]
    assert receipt is not None
    assert change(alice, "revoke", unknown) == (["not_found"], None)
    outcomes, receipt = change(alice, "revoke", revoked)
    assert (outcomes, receipt is not None) == (["unchanged"], True), "a repetition returns a receipt again"


def test_only_revoked_keys_are_journalled(harness: AppHarness, alice: Caller) -> None:
    paused, revoked = create(harness, alice, 2), create(harness, alice, 2)
    change(alice, "pause", *paused)
    change(alice, "revoke", *revoked)
    with harness.services.directory.database.reading() as session:
        journalled = set(dict(journal.of_account(session, "acme")))
    assert journalled & {*paused, *revoked} == set(revoked)
    recent = {key.key_id for key in harness.services.revocation.recently_revoked()}
    assert recent & {*paused, *revoked} == set(revoked)


def test_keys_of_another_account_are_not_found(harness: AppHarness, alice: Caller, charlie: Caller) -> None:
    keys = create(harness, alice, 1)
    for action in ("pause", "revoke"):
        assert change(charlie, action, *keys) == (["not_found"], None)
    assert codes(keys) == {None}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "delete", "ids": [str(uuid4())]}, "action"),
        ({"action": "pause", "ids": []}, "ids"),
        ({"action": "pause", "ids": [str(uuid4()) for _ in range(101)]}, "ids"),
        ({"action": "pause", "ids": ["CI"]}, "ids[0]"),
        ({"action": "pause"}, "ids"),
    ],
)
def test_wrong_input_is_named(alice: Caller, body: dict[str, Any], field: str) -> None:
    refused = alice.post(BULK, body)
    assert (refused.status_code, refused.get_json()["errors"][0]["field"]) == (400, field)


def test_keys_and_members_can_not_change_keys(harness: AppHarness, bob: Caller, alice: Caller) -> None:
    keys = create(harness, alice, 1)
    for caller in (bob, *keys.values()):
        assert caller.post(BULK, {"action": "revoke", "ids": list(keys)}).get_json()["code"] == "forbidden"
    assert codes(keys) == {None}
