"""Scopes, conditions, limits and pause of API keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from kataven.identity.scopes import SCOPES
from kataven.web.operation import Operation, operation_of
from tests.support.app_harness import AppHarness, Caller
from tests.support.waiting import wait_until


def create_key(owner: Caller, **body: Any) -> dict[str, Any]:
    response = owner.post("/v1/api-keys", {"name": "CI", "expiry": "90d", **body})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.get_json()
    return created


def change(owner: Caller, key: dict[str, Any], **body: Any) -> dict[str, Any]:
    response = owner.patch(f"/v1/api-keys/{key['id']}", body)
    assert response.status_code == 200, response.text
    changed: dict[str, Any] = response.get_json()
    return changed


def outcome(harness: AppHarness, key: dict[str, Any], path: str = "/v1/me", **options: Any) -> tuple[int, str | None]:
    response = harness.bearer(key["key"]).get(path, **options)
    body = response.get_json()
    return response.status_code, body.get("code") if isinstance(body, dict) else None


ACCEPTED = (200, None)


def operations(app: Flask) -> list[Operation]:
    declared = (operation_of(view) for view in app.view_functions.values())
    return [one for one in declared if one is not None and not one.access.public]


def test_scopes_are_those_of_the_operations_that_accept_keys(harness: AppHarness) -> None:
    declared = {one.scope for one in operations(harness.app) if one.access.keys and one.access.scoped}
    assert declared | {scope.replace(":write", ":read") for scope in declared if scope} >= set(SCOPES)
    assert declared <= set(SCOPES)


def test_error_names_the_missing_scope(harness: AppHarness, alice: Caller) -> None:
    key = create_key(alice, scopes=["widget-keys:read"])
    problem = harness.bearer(key["key"]).get("/v1/agents").get_json()
    assert problem["code"] == "insufficient_scope"
    assert "`agents:read`" in problem["detail"]


def test_caller_reads_its_scopes(harness: AppHarness, alice: Caller) -> None:
    for given, expected in ((["agents:write"], ["agents:read", "agents:write"]), (None, None)):
        assert harness.bearer(create_key(alice, scopes=given)["key"]).get("/v1/me").get_json()["scopes"] == expected
    assert alice.get("/v1/me").get_json()["scopes"] is None


def test_scopes_are_normalized_and_validated(alice: Caller) -> None:
    assert create_key(alice, scopes=["agents:write", "api-keys:read", "agents:read"])["scopes"] == [
        "agents:write",
        "api-keys:read",
    ]
    for wrong, message in ((["agents:reed"], "agents:read"), ([], "at least 1"), (["*"], "not a scope")):
        response = alice.post("/v1/api-keys", {"name": "CI", "expiry": "90d", "scopes": wrong})
        assert response.status_code == 400
        assert message in response.get_json()["errors"][0]["message"]


def test_scopes_can_be_reduced_with_a_receipt_and_not_extended(harness: AppHarness, alice: Caller) -> None:
    key = create_key(alice)
    assert outcome(harness, key, "/v1/widget-keys") == ACCEPTED
    assert change(alice, key, scopes=["agents:write"])["receipt"]["workers"] >= 1
    assert outcome(harness, key, "/v1/widget-keys") == (403, "insufficient_scope")
    for wider in (None, ["agents:write", "api-keys:read"]):
        response = alice.patch(f"/v1/api-keys/{key['id']}", {"scopes": wider})
        assert response.status_code == 400
        assert response.get_json()["errors"][0]["field"] == "scopes"
    assert change(alice, key, scopes=["agents:read"])["scopes"] == ["agents:read"]


def test_key_is_accepted_from_allowed_addresses_only(harness: AppHarness, alice: Caller) -> None:
    key = create_key(alice, allowed_addresses=["192.0.2.0/24", "2001:db8::7"], denied_addresses=["192.0.2.66"])
    assert key["allowed_addresses"] == ["192.0.2.0/24", "2001:db8::7/128"]
    for address, expected in (
        ("192.0.2.1", ACCEPTED),
        ("::ffff:192.0.2.1", ACCEPTED),
        ("192.0.2.66", (403, "address_not_allowed")),
        ("192.0.3.1", (403, "address_not_allowed")),
        ("2001:db8::7", ACCEPTED),
        ("2001:db8::8", (403, "address_not_allowed")),
    ):
        environ = {"REMOTE_ADDR": address}
        for _ in range(2):
            assert outcome(harness, key, environ_overrides=environ) == expected, address
    assert outcome(harness, key, environ_overrides={"REMOTE_ADDR": ""}) == (403, "address_not_allowed")
    changed = change(alice, key, allowed_addresses=[], denied_addresses=["2001:db8::/32"])
    assert changed["receipt"]["workers"] >= 1
    assert outcome(harness, key, environ_overrides={"REMOTE_ADDR": "192.0.3.1"}) == ACCEPTED
    assert outcome(harness, key, environ_overrides={"REMOTE_ADDR": "2001:db8::7"}) == (403, "address_not_allowed")
    unknown = outcome(harness, key, environ_overrides={"REMOTE_ADDR": ""})
    assert unknown == (403, "address_not_allowed"), "an address that is not known can be a denied one"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("acme.com", "CIDR"),
        ("192.0.2.7/24", "did you mean 192.0.2.0/24?"),
        ("::ffff:0:0/90", "did you mean ::ffc0:0:0/90?"),
        ("192.0.2.0/33", "CIDR"),
    ],
)
def test_wrong_networks_are_explained(alice: Caller, address: str, message: str) -> None:
    response = alice.post("/v1/api-keys", {"name": "CI", "expiry": "90d", "allowed_addresses": [address]})
    assert response.status_code == 400
    (error,) = response.get_json()["errors"]
    assert error["field"] == "allowed_addresses[0]"
    assert message in error["message"]


def test_rejection_by_a_condition_is_counted_as_such(harness: AppHarness, alice: Caller) -> None:
    def count(result: str) -> float:
        counter = harness.services.metrics.verifications.labels("api_key", result)
        return next(sample.value for sample in counter.collect()[0].samples if sample.name.endswith("_total"))

    key = create_key(alice, allowed_addresses=["192.0.2.0/24"])
    accepted, rejected = count("accepted"), count("address_not_allowed")
    assert outcome(harness, key) == (403, "address_not_allowed")
    assert (count("accepted"), count("address_not_allowed")) == (accepted, rejected + 1)


@pytest.mark.parametrize("header", [{"Origin": "https://acme.com"}, {"Sec-Fetch-Site": "cross-site"}])
def test_key_that_a_browser_sends_is_rejected_and_flagged(
    harness: AppHarness, alice: Caller, header: dict[str, str]
) -> None:
    key, allowed = create_key(alice), create_key(alice, from_browsers=True)
    caller = Caller(harness.app, {"Authorization": f"Bearer {key['key']}", **header})
    assert caller.get("/v1/me").get_json()["code"] == "browser_use"

    def flagged() -> set[str]:
        keys = alice.get("/v1/api-keys?limit=100").get_json()
        return {one["id"] for one in keys if one["browser_use_at"] is not None}

    wait_until(lambda: key["id"] in flagged(), 20)
    assert Caller(harness.app, {"Authorization": f"Bearer {allowed['key']}", **header}).get("/v1/me").status_code == 200
    assert allowed["id"] not in flagged()
    assert outcome(harness, key) == ACCEPTED, "from a server, the key is valid"


def test_key_is_rejected_before_its_time(harness: AppHarness, alice: Caller) -> None:
    later, before = datetime.now(UTC) + timedelta(days=1), datetime.now(UTC) - timedelta(days=1)
    key = create_key(alice, not_before=later.isoformat())
    assert key["status"] == "not_yet_valid"
    assert outcome(harness, key) == (403, "credential_not_yet_valid")
    assert change(alice, key, not_before=before.isoformat())["status"] == "active"
    assert outcome(harness, key) == ACCEPTED
    response = alice.post("/v1/api-keys", {"name": "CI", "expiry": "90d", "not_before": "2027-01-01T00:00:00"})
    assert "time zone" in response.get_json()["errors"][0]["message"]
    for outside in ("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00"):
        response = alice.post("/v1/api-keys", {"name": "CI", "expiry": "90d", "not_before": outside})
        assert "between the years" in response.get_json()["errors"][0]["message"]
    assert create_key(alice, not_before="9998-12-31T23:59:59-12:00")["status"] == "not_yet_valid"


def test_key_is_paused_and_resumed_with_receipts(harness: AppHarness, alice: Caller) -> None:
    key = create_key(alice)
    assert outcome(harness, key) == ACCEPTED
    for _ in range(3):
        paused = change(alice, key, paused=True)
        assert (paused["status"], paused["receipt"]["workers"] >= 1) == ("paused", True)
        assert outcome(harness, key) == (403, "paused_credential")
        assert change(alice, key, paused=False)["status"] == "active"
        assert outcome(harness, key) == ACCEPTED
    change(alice, key, paused=True)
    assert change(alice, key, disabled=True)["status"] == "revoked"
    response = alice.patch(f"/v1/api-keys/{key['id']}", {"paused": False})
    assert (response.status_code, response.get_json()["code"]) == (409, "conflict")
    assert outcome(harness, key) == (403, "revoked_credential")


def test_owner_sets_limits_of_a_key_below_the_accounts(harness: AppHarness, alice: Caller) -> None:
    key = create_key(alice, limits={"per_minute": 2})
    assert key["limits"]["per_minute"] == 2
    assert [outcome(harness, key)[0] for _ in range(3)] == [200, 200, 429]
    assert change(alice, key, limits={"per_minute": 50})["limits"]["per_minute"] == 50
    assert outcome(harness, key) == ACCEPTED
    assert change(alice, key, limits={"per_day": None, "per_minute": 4.0})["limits"]["per_minute"] == 4
    assert change(alice, key, limits=None)["limits"] is None
    too_many = alice.get("/v1/me").get_json()["limits"]["per_minute"]["limit"] + 1
    for wrong, field in (({"per_minute": too_many}, "limits.per_minute"), ({"per_minute": 9, "per_hour": 5}, "limits")):
        response = alice.patch(f"/v1/api-keys/{key['id']}", {"limits": wrong})
        assert response.status_code == 400, response.text
        assert response.get_json()["errors"][0]["field"] == field


def test_changes_are_recorded_in_the_audit_log(alice: Caller) -> None:
    key = create_key(alice, scopes=["agents:read"])
    change(alice, key, allowed_addresses=["192.0.2.0/24"], paused=True)
    events = alice.get("/v1/audit-events?limit=10").get_json()
    actions = {event["action"] for event in events if event["target"] == key["id"]}
    assert actions == {"api_key.paused", "api_key.rules_changed", "api_key.created"}
