"""`/v1/api-keys`: returned once, stored as a hash, revoked permanently, and managed with a JWT only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete

from kataven.account.models import ApiKey, AuditEvent
from kataven.identity import token as tokens
from kataven.revocation import Receipt, RevocationUnconfirmed
from kataven.revocation.revocation import Intent
from kataven.system import accounts
from tests.support.app_harness import AppHarness, Caller, new_account

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def _create_key(caller: Caller, **body: Any) -> dict[str, Any]:
    response = caller.post("/v1/api-keys", {"name": "CI", "expiry": "never", **body})
    assert response.status_code == 201, response.get_json()
    minted: dict[str, Any] = response.get_json()
    return minted


def test_key_is_returned_once_and_accepted(harness: AppHarness, alice: Caller) -> None:
    response = alice.post("/v1/api-keys", {"name": "CI", "expiry": "90d"})
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    minted = response.get_json()
    key = minted.pop("key")
    assert tokens.parse(key).account == "acme"
    assert minted["hint"] == key[-8:]
    assert minted["status"] == "active"
    assert minted["created_by"] == "jwt:alice"
    assert minted["last_used_at"] is None

    listed = alice.get("/v1/api-keys?limit=200")
    assert next(row for row in listed.get_json() if row["id"] == minted["id"]) == minted
    assert key not in listed.text

    me = harness.bearer(key).get("/v1/me").get_json()
    assert (me["account"], me["role"], me["credential"]["kind"]) == ("acme", None, "api_key")
    assert me["credential"]["id"] == minted["id"]


@pytest.mark.parametrize(("expiry", "days"), [("never", None), ("1y", 365), ("90d", 90), ("30d", 30)])
def test_every_expiry_is_applied(alice: Caller, expiry: str, days: int | None) -> None:
    minted = _create_key(alice, expiry=expiry)
    if days is None:
        assert minted["expires_at"] is None
        return
    ends = datetime.fromisoformat(minted["expires_at"])
    assert abs(ends - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expiry": "30d"}, "name"),
        ({"name": "x"}, "expiry"),
        ({"name": "x", "expiry": "2y"}, "expiry"),
        ({"name": "x", "expiry": None}, "expiry"),
        ({"name": "", "expiry": "30d"}, "name"),
        ({"name": "x", "expiry": "30d", "scopes": []}, "scopes"),
    ],
)
def test_invalid_key_body_returns_400(alice: Caller, body: dict[str, Any], field: str) -> None:
    response = alice.post("/v1/api-keys", body)
    assert response.status_code == 400
    assert field in [error["field"] for error in response.get_json()["errors"]]


def test_expiry_over_the_account_policy_is_rejected_with_the_allowed_values(harness: AppHarness) -> None:
    new_account(harness.services, "strict")
    with harness.services.directory.database.writing() as session:
        accounts.read(session, "strict").max_key_expiry_days = 100
    owner = harness.bearer(harness.issuer.token(claims=_owner_of("strict")), "strict")
    for expiry in ("never", "1y"):
        response = owner.post("/v1/api-keys", {"name": "x", "expiry": expiry})
        problem = response.get_json()
        assert (response.status_code, problem["code"]) == (400, "expiry_exceeds_policy")
        assert "90d, 30d" in problem["detail"]
        assert problem["errors"][0]["field"] == "expiry"
    assert owner.post("/v1/api-keys", {"name": "x", "expiry": "90d"}).status_code == 201
    assert len(owner.get("/v1/api-keys").get_json()) == 1


def _owner_of(account: str) -> dict[str, Any]:
    return {"urn:zitadel:iam:org:project:roles": {"owner": {f"org-{account}": f"{account}.example"}}}


def test_revoked_key_is_refused_once_the_receipt_is_out(harness: AppHarness, alice: Caller) -> None:
    minted = _create_key(alice)
    caller = harness.bearer(minted["key"])
    assert caller.get("/v1/me").status_code == 200
    path = f"/v1/api-keys/{minted['id']}"

    revoked = alice.patch(path, {"disabled": True})
    assert revoked.status_code == 200
    assert revoked.get_json()["status"] == "revoked"
    receipt = revoked.get_json()["receipt"]
    assert receipt["workers"] == receipt["acknowledged"] == 1
    assert receipt["ms"] >= 0
    refused = caller.get("/v1/me")
    assert (refused.status_code, refused.get_json()["code"]) == (403, "revoked_credential")

    again = alice.patch(path, {"disabled": True}).get_json()
    assert again["disabled_at"] == revoked.get_json()["disabled_at"]
    assert alice.patch(path, {"disabled": False}).status_code == 400
    assert alice.patch(path, {"name": "Renamed"}).get_json()["status"] == "revoked"
    assert caller.get("/v1/me").status_code == 403


def test_receipt_is_in_the_audit_log(alice: Caller) -> None:
    minted = _create_key(alice, name="Audited")
    revoked = alice.patch(f"/v1/api-keys/{minted['id']}", {"disabled": True}).get_json()
    events = alice.get("/v1/audit-events?action=api_key.revoked&limit=200").get_json()
    event = next(event for event in events if event["target"] == minted["id"])
    assert {"id": event["id"], **event["detail"]["receipt"]} == revoked["receipt"]
    assert (event["actor"], event["actor_name"]) == ("jwt:alice", "Alice")
    assert event["address"] == "127.0.0.1"


def test_deleting_an_unused_key_removes_it(harness: AppHarness, alice: Caller) -> None:
    minted = _create_key(alice)
    response = alice.delete(f"/v1/api-keys/{minted['id']}")
    assert (response.status_code, response.get_json()["outcome"]) == (200, "removed")
    assert minted["id"] not in [row["id"] for row in alice.get("/v1/api-keys?limit=200").get_json()]
    assert harness.bearer(minted["key"]).get("/v1/me").get_json()["code"] == "invalid_credential"
    assert alice.delete(f"/v1/api-keys/{minted['id']}").status_code == 404


def test_deleting_a_used_key_keeps_it_as_revoked(harness: AppHarness, alice: Caller) -> None:
    minted = _create_key(alice)
    assert harness.bearer(minted["key"]).get("/v1/me").status_code == 200
    response = alice.delete(f"/v1/api-keys/{minted['id']}")
    assert (response.status_code, response.get_json()["outcome"]) == (200, "revoked")
    row = next(row for row in alice.get("/v1/api-keys?limit=200").get_json() if row["id"] == minted["id"])
    assert row["status"] == "revoked"
    assert row["last_used_at"] is not None
    assert harness.bearer(minted["key"]).get("/v1/me").get_json()["code"] == "revoked_credential"


@pytest.mark.parametrize("alias", ["", "/api", "/hub-api/api"])
@pytest.mark.parametrize(
    "body", [None, {}, {"name": "x", "expiry": "30d"}, {"disabled": True}, {"bogus": 1}, b"{not json"]
)
def test_api_key_can_not_create_update_or_revoke_keys(acme_key: Caller, alice: Caller, alias: str, body: Any) -> None:
    own = acme_key.get("/v1/me").get_json()["credential"]["id"]
    options = {"data": body, "content_type": "application/json"} if isinstance(body, bytes) else {"json": body}
    before = _all_but_last_use(alice)
    targets = [("POST", "/v1/api-keys")]
    targets += [
        (verb, f"/v1/api-keys/{key}") for verb in ("PATCH", "DELETE") for key in (own, UNKNOWN_ID, "not-a-uuid")
    ]
    for method, path in targets:
        response = acme_key.call(method, alias + path, **options)
        assert (response.status_code, response.get_json()["code"]) == (403, "forbidden"), (method, path)
    assert _all_but_last_use(alice) == before


def _all_but_last_use(caller: Caller) -> list[dict[str, Any]]:
    """The last use of a key is written shortly after its request."""
    return [{**row, "last_used_at": ...} for row in caller.get("/v1/api-keys?limit=200").get_json()]


def test_member_can_list_keys_and_not_change_them(alice: Caller, bob: Caller) -> None:
    minted = _create_key(alice)
    assert minted["id"] in [row["id"] for row in bob.get("/v1/api-keys?limit=200").get_json()]
    path = f"/v1/api-keys/{minted['id']}"
    for response in (
        bob.post("/v1/api-keys", {"name": "x", "expiry": "30d"}),
        bob.patch(path, {"name": "x"}),
        bob.delete(path),
    ):
        assert (response.status_code, response.get_json()["code"]) == (403, "forbidden")


def test_empty_patch_changes_nothing(alice: Caller) -> None:
    minted = _create_key(alice)
    response = alice.patch(f"/v1/api-keys/{minted['id']}", {})
    assert response.status_code == 200
    assert {**response.get_json(), "key": minted["key"]} == minted


def test_unknown_key_returns_404(alice: Caller) -> None:
    for key_id in (UNKNOWN_ID, "nope"):
        assert alice.patch(f"/v1/api-keys/{key_id}", {"name": "x"}).status_code == 404
        assert alice.delete(f"/v1/api-keys/{key_id}").status_code == 404


def test_unconfirmed_revocation_is_committed_and_a_retry_returns_the_receipt(
    harness: AppHarness, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    minted = _create_key(alice)

    def unconfirmed(_: object) -> None:
        raise RevocationUnconfirmed

    with monkeypatch.context() as outage:
        outage.setattr(harness.services.revocation, "revoke", unconfirmed)
        response = alice.patch(f"/v1/api-keys/{minted['id']}", {"disabled": True})
    assert (response.status_code, response.get_json()["code"]) == (503, "unavailable")
    assert "Retry to get a receipt" in response.get_json()["detail"]
    assert int(response.headers["Retry-After"]) >= 1
    assert harness.bearer(minted["key"]).get("/v1/me").get_json()["code"] == "revoked_credential"

    again = alice.patch(f"/v1/api-keys/{minted['id']}", {"disabled": True}).get_json()
    assert again["status"] == "revoked"
    assert again["receipt"]["workers"] == again["receipt"]["acknowledged"]


def test_a_revocation_that_a_failover_lost_returns_503_and_succeeds_when_it_is_sent_again(
    harness: AppHarness, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revocation is committed on a primary that loses its role, and the new primary does not have the commit."""
    minted = _create_key(alice)
    revocation = harness.services.revocation

    def lose_the_commit_and_revoke(intent: Intent, original: Any = revocation.revoke) -> Receipt:
        record = harness.services.directory.read("acme")
        assert record is not None
        with harness.services.registry.writing(record.tenant) as session:
            key = session.get_one(ApiKey, UUID(minted["id"]))
            key.disabled_at = None
            session.execute(
                delete(AuditEvent).where(AuditEvent.target == minted["id"], AuditEvent.action.contains("revoked"))
            )
        receipt: Receipt = original(intent)
        return receipt

    with monkeypatch.context() as failover:
        failover.setattr(revocation, "revoke", lose_the_commit_and_revoke)
        lost = alice.patch(f"/v1/api-keys/{minted['id']}", {"disabled": True})
    assert (lost.status_code, lost.get_json()["code"]) == (503, "unavailable")
    assert "lost" in lost.get_json()["detail"]
    assert int(lost.headers["Retry-After"]) >= 1

    again = alice.patch(f"/v1/api-keys/{minted['id']}", {"disabled": True})
    assert again.status_code == 200
    assert again.get_json()["receipt"]["workers"] == again.get_json()["receipt"]["acknowledged"]
    assert harness.bearer(minted["key"]).get("/v1/me").get_json()["code"] == "revoked_credential"
