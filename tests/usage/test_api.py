"""`/v1/usage`, `/v1/requests`, the usage of a key, the preview of its revocation, and receipts."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.ratelimit.policy import WINDOWS
from kataven.usage.recorder import UsageRecorder
from tests.support.app_harness import AppHarness, Caller, new_account

NEW_KEY = {"name": "billing server", "expiry": "90d"}


@pytest.fixture
def account(harness: AppHarness) -> str:
    name = f"usage-{uuid4().hex[:12]}"
    new_account(harness.services, name)
    return name


@pytest.fixture
def owner(harness: AppHarness, account: str) -> Caller:
    return user(harness, account, Role.OWNER)


def user(harness: AppHarness, account: str, role: Role) -> Caller:
    return harness.user(Persona(f"{role}-{account}", str(role).title(), account, role))


def recorder_of(harness: AppHarness) -> UsageRecorder:
    usage = harness.services.usage
    assert usage is not None
    return usage


def get(harness: AppHarness, caller: Caller, path: str, **options: Any) -> Any:
    """The JSON of a response, after everything before it is stored."""
    recorder_of(harness).flush()
    response = caller.get(path, **options)
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_json()


def new_key(harness: AppHarness, owner: Caller, **fields: Any) -> tuple[str, Caller]:
    created = owner.post("/v1/api-keys", {**NEW_KEY, **fields}).get_json()
    return created["id"], harness.bearer(created["key"])


def by_group(usage: Any) -> dict[str, int]:
    return {line["group"]: line["calls"] for line in usage["series"]}


def test_calls_are_counted_by_outcome_route_and_caller(harness: AppHarness, account: str, owner: Caller) -> None:
    key_id, key = new_key(harness, owner)
    for _ in range(3):
        assert key.get("/v1/agents").status_code == 200
    assert key.get(f"/v1/agents/{uuid4()}").status_code == 404
    assert key.get("/v1/audit-events").status_code == 403
    of_key = {"query_string": {"caller": key_id}}
    assert by_group(get(harness, owner, "/v1/usage", **of_key)) == {"ok": 3, "invalid": 1, "refused": 1}
    routes = {"query_string": {"caller": key_id, "group_by": "route", "interval": "minute"}}
    assert by_group(get(harness, owner, "/v1/usage", **routes)) == {
        "GET /v1/agents": 3,
        "GET /v1/agents/<agent_id>": 1,
        "GET /v1/audit-events": 1,
    }
    callers = by_group(get(harness, owner, "/v1/usage", query_string={"group_by": "caller", "interval": "day"}))
    assert callers[key_id] == 5
    assert len(callers) == 2  # the owner
    codes = by_group(get(harness, owner, "/v1/usage", query_string={"group_by": "code", "caller": key_id}))
    assert codes == {"": 3, "not_found": 1, "forbidden": 1}


def test_requests_without_a_valid_credential_are_no_usage_of_the_account(
    harness: AppHarness, account: str, owner: Caller
) -> None:
    text = harness.new_key(account)
    unknown = text[:-8] + ("AAAAAAAA" if not text.endswith("AAAAAAAA") else "BBBBBBBB")
    assert harness.bearer(unknown).get("/v1/agents").status_code in {400, 401}
    assert harness.caller().get("/v1/agents").status_code == 401
    assert harness.caller().get("/healthz").status_code == 200
    assert get(harness, owner, "/v1/usage")["calls"] == 0


def test_a_request_is_explained(harness: AppHarness, account: str, owner: Caller) -> None:
    key_id, key = new_key(harness, owner, scopes=["usage:read"])
    refused = key.get("/v1/agents", query_string={"cursor": "secret"}, headers={"User-Agent": "billing/1.2"})
    assert refused.status_code == 403
    explained = get(harness, owner, f"/v1/requests/{refused.headers['X-Request-ID']}")
    assert {
        name: explained[name] for name in ("caller_id", "caller_kind", "caller_name", "route", "status", "code")
    } == {
        "caller_id": key_id,
        "caller_kind": "api_key",
        "caller_name": "billing server",
        "route": "GET /v1/agents",
        "status": 403,
        "code": "insufficient_scope",
    }
    assert (explained["step"], explained["outcome"], explained["user_agent"]) == ("access", "refused", "billing")
    assert explained["address"] == "127.0.0.1"
    assert [(step["name"], step["result"]) for step in explained["steps"]][3:7] == [
        ("account", "passed"),
        ("access", "decided"),
        ("limits", "not_reached"),
        ("handler", "not_reached"),
    ]
    assert "scope" in explained["explanation"]
    assert "secret" not in str(explained)


def test_a_429_names_its_limit(harness: AppHarness, account: str, owner: Caller) -> None:
    _, key = new_key(harness, owner)
    harness.set_limits(account, **{**dict.fromkeys(WINDOWS, 1_000_000), "per_minute": 1, "concurrent": 100})
    key.get("/v1/agents")
    refused = key.get("/v1/agents")
    assert refused.status_code == 429
    harness.set_limits(account, per_minute=1_000_000)
    explained = get(harness, owner, f"/v1/requests/{refused.headers['X-Request-ID']}")
    assert (explained["step"], explained["code"]) == ("limits", "rate_limited")
    limits = {limit["limit"]: (limit["quota"], limit["left"]) for limit in explained["limits"]}
    assert limits["per-minute"] == (1, 0)


@pytest.mark.parametrize(
    ("path", "step", "status"),
    [
        ("/v1/agents", "response", 200),
        ("/v1/agents/11111111-1111-1111-1111-111111111111", "handler", 404),
        ("/v1/agents?limit=x", "handler", 400),
    ],
)
def test_the_deciding_step(harness: AppHarness, account: str, owner: Caller, path: str, step: str, status: int) -> None:
    _, key = new_key(harness, owner)
    response = key.get(path)
    assert response.status_code == status
    assert get(harness, owner, f"/v1/requests/{response.headers['X-Request-ID']}")["step"] == step


def test_a_key_from_another_address_is_refused_at_the_principal(
    harness: AppHarness, account: str, owner: Caller
) -> None:
    _, key = new_key(harness, owner, allowed_addresses=["192.0.2.0/24"])
    refused = key.get("/v1/agents")
    explained = get(harness, owner, f"/v1/requests/{refused.headers['X-Request-ID']}")
    assert (explained["step"], explained["code"]) == ("principal", "address_not_allowed")


def test_the_log_is_filtered_and_paged(harness: AppHarness, account: str, owner: Caller) -> None:
    key_id, key = new_key(harness, owner)
    for _ in range(5):
        key.get("/v1/audit-events")
    key.get("/v1/agents")
    refused = {"caller": key_id, "outcome": "refused", "limit": 2}
    recorder_of(harness).flush()
    seen, cursor = [], None
    while True:
        page = owner.get("/v1/requests", query_string={**refused, **({"cursor": cursor} if cursor else {})})
        seen += [row["id"] for row in page.get_json()]
        cursor = page.headers.get("X-Next-Cursor")
        if cursor is None:
            break
    assert len(set(seen)) == len(seen) == 5
    assert len(get(harness, owner, "/v1/requests", query_string={"caller": key_id, "status": 200})) == 1
    assert get(harness, owner, "/v1/requests", query_string={"address": "192.0.2.1"}) == []
    assert owner.get(f"/v1/requests/{uuid4().hex}").status_code == 404


def test_calls_of_a_revoked_key_are_counted_against_its_receipt(
    harness: AppHarness, account: str, owner: Caller
) -> None:
    key_id, key = new_key(harness, owner)
    key.get("/v1/agents", headers={"User-Agent": "curl/8.5.0"})
    recorder_of(harness).flush()
    preview = owner.post(f"/v1/api-keys/{key_id}/revoke-preview").get_json()
    assert (preview["in_use"], preview["calls_last_hour"], preview["calls_last_day"]) == (True, 1, 1)
    assert [(one["address"], one["user_agent"], one["calls"]) for one in preview["addresses"]] == [
        ("127.0.0.1", "curl", 1)
    ]
    assert preview["routes"] == [{"route": "GET /v1/agents", "calls": 1}]
    revoked = owner.patch(f"/v1/api-keys/{key_id}", {"disabled": True}).get_json()
    assert revoked["receipt"]["acknowledged"] >= 1
    for _ in range(4):
        assert key.get("/v1/agents").status_code == 403
    receipt = get(harness, owner, f"/v1/receipts/{revoked['receipt']['id']}")
    assert (receipt["action"], receipt["target"], receipt["target_name"]) == (
        "api_key.revoked",
        key_id,
        "billing server",
    )
    assert receipt["refused_calls"] == 4
    assert receipt["last_refused"]["code"] == "revoked_credential"
    assert receipt["receipt"]["workers"] == len(receipt["times"]) >= 1
    for times in receipt["times"]:
        assert 0 <= times["heard_ms"] <= times["forgotten_ms"]
    usage = get(harness, owner, f"/v1/api-keys/{key_id}/usage")
    assert usage["calls"] == {"ok": 1, "invalid": 0, "refused": 4, "limited": 0, "failed": 0}
    assert sum(hour["calls"] for hour in usage["hours"]) == 5
    assert usage["last"]["outcome"] == "refused"
    preview = owner.post(f"/v1/api-keys/{key_id}/revoke-preview").get_json()
    assert preview["calls_last_hour"] == 1  # refused calls are none that a revocation would stop


def test_calls_of_a_paused_key_and_of_a_former_secret_are_counted(
    harness: AppHarness, account: str, owner: Caller
) -> None:
    key_id, key = new_key(harness, owner)
    paused = owner.patch(f"/v1/api-keys/{key_id}", {"paused": True}).get_json()["receipt"]["id"]
    key.get("/v1/agents")
    owner.patch(f"/v1/api-keys/{key_id}", {"paused": False})
    owner.post(f"/v1/api-keys/{key_id}/rotate", {"grace_seconds": 60})
    ended = owner.patch(f"/v1/api-keys/{key_id}/former-secret", {"ends_in_seconds": 0}).get_json()["receipt"]["id"]
    for _ in range(2):
        assert key.get("/v1/agents").get_json()["code"] == "rotated_credential"
    assert get(harness, owner, f"/v1/receipts/{paused}")["refused_calls"] == 1
    assert get(harness, owner, f"/v1/receipts/{ended}")["refused_calls"] == 2


def test_who_may_read_what(harness: AppHarness, account: str, owner: Caller) -> None:
    key_id, full = new_key(harness, owner)
    _, scoped = new_key(harness, owner, scopes=["usage:read", "requests:read", "api-keys:read"])
    _, narrow = new_key(harness, owner, scopes=["agents:read"])
    admin, member = user(harness, account, Role.ADMIN), user(harness, account, Role.MEMBER)
    request = full.get("/v1/agents").headers["X-Request-ID"]
    recorder_of(harness).flush()
    paths = ["/v1/usage", "/v1/requests", f"/v1/requests/{request}", f"/v1/api-keys/{key_id}/usage"]
    for path in paths:
        statuses = [caller.get(path).status_code for caller in (owner, admin, full, scoped, narrow)]
        assert statuses == [200, 200, 200, 200, 403], path
    assert [member.get(path).status_code for path in paths] == [200, 403, 403, 403]
    assert [one.post(f"/v1/api-keys/{key_id}/revoke-preview").status_code for one in (admin, member, full)] == [
        200,
        403,
        403,
    ]


def test_another_account_sees_nothing(harness: AppHarness, account: str, owner: Caller) -> None:
    key_id, key = new_key(harness, owner)
    request = key.get("/v1/agents").headers["X-Request-ID"]
    other = f"other-{uuid4().hex[:12]}"
    new_account(harness.services, other)
    stranger = user(harness, other, Role.OWNER)
    receipt = owner.patch(f"/v1/api-keys/{key_id}", {"paused": True}).get_json()["receipt"]["id"]
    recorder_of(harness).flush()
    assert owner.get(f"/v1/receipts/{receipt}").status_code == 200
    assert stranger.get(f"/v1/receipts/{receipt}").status_code == 404
    assert stranger.get(f"/v1/requests/{request}").status_code == 404
    assert stranger.get(f"/v1/api-keys/{key_id}/usage").status_code == 404
    assert stranger.post(f"/v1/api-keys/{key_id}/revoke-preview").status_code == 404
    assert by_group(get(harness, stranger, "/v1/usage", query_string={"group_by": "caller"})).get(key_id) is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"interval": "minute", "start": "2026-01-01T00:00:00Z", "end": "2026-01-03T00:00:00Z"}, "start"),
        ({"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "start"),
        ({"start": "2026-01-02T00:00:00"}, "start"),
        ({"group_by": "address"}, "group_by"),
        ({"caller": "x"}, "caller"),
        ({"end": "0001-01-01T00:00:00Z"}, "end"),
        ({"end": "0001-01-01T00:00:00+01:00"}, "end"),
        ({"start": "0001-01-01T00:00:00+01:00"}, "start"),
    ],
)
def test_invalid_periods_are_refused(owner: Caller, query: dict[str, str], field: str) -> None:
    response = owner.get("/v1/usage", query_string=query)
    assert response.status_code == 400
    assert [error["field"] for error in response.get_json()["errors"]] == [field]


@pytest.mark.parametrize("parameter", ["since", "until"])
def test_times_of_requests_are_compared_in_utc(alice: Caller, parameter: str) -> None:
    # PostgreSQL does not know offsets from UTC of 16 hours and more.
    assert alice.get(f"/v1/requests?{parameter}=2026-11-26T12:00:00%2B23:59").status_code == 200
    for moment in ("0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59"):
        refused = alice.get(f"/v1/requests?{parameter}={moment}")
        assert refused.status_code == 400
        assert refused.get_json()["errors"][0]["field"] == parameter
