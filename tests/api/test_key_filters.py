"""`GET /v1/api-keys` with filters, and the header that announces the expiry of a key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from kataven.dev.personas import Persona
from kataven.identity.principal import Role
from kataven.web.pipeline import EXPIRES_IN
from tests.support.app_harness import AppHarness, Caller, new_account

ACCOUNT = "filtered-keys"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def owner(harness: AppHarness) -> Caller:
    """The owner of an account with one key of each kind."""
    new_account(harness.services, ACCOUNT)
    rows: dict[str, dict[str, Any]] = {
        "fresh": {},
        "old": {"created_at": NOW - timedelta(days=200)},
        "old but used": {"created_at": NOW - timedelta(days=200), "last_used_at": NOW - timedelta(days=2)},
        "ends soon": {"expires_at": NOW + timedelta(days=5)},
        "expired": {"expires_at": NOW - timedelta(days=1)},
        "revoked": {"disabled_at": NOW, "expires_at": NOW + timedelta(days=5)},
        "paused": {"paused_at": NOW},
        "later": {"not_before": NOW + timedelta(days=9)},
    }
    for name, columns in rows.items():
        harness.new_key(ACCOUNT, name=name, **columns)
    return harness.user(Persona("dora", "Dora", ACCOUNT, Role.OWNER))


def names(owner: Caller, **query: Any) -> list[str]:
    response = owner.get(f"/v1/api-keys?{urlencode({'limit': 200, **query})}")
    assert response.status_code == 200, response.text
    return sorted(key["name"] for key in response.get_json())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "active"}, ["ends soon", "fresh", "old", "old but used"]),
        ({"status": "paused"}, ["paused"]),
        ({"status": "not_yet_valid"}, ["later"]),
        ({"status": "expired"}, ["expired"]),
        ({"status": "revoked"}, ["revoked"]),
        ({"unused_for": 90}, ["old"]),
        ({"unused_for": 1}, ["old", "old but used"]),
        ({"expires_within": 14}, ["ends soon"]),
        ({"q": "OLD"}, ["old", "old but used"]),
        ({"q": "old", "unused_for": 90}, ["old"]),
        ({"q": "%"}, []),
    ],
    ids=str,
)
def test_filters_select_keys(owner: Caller, query: dict[str, Any], expected: list[str]) -> None:
    assert names(owner, **query) == expected


def test_cursor_is_valid_with_its_filters_only(owner: Caller) -> None:
    first = owner.get("/v1/api-keys?status=active&limit=2")
    cursor = first.headers["X-Next-Cursor"]
    assert "status=active" in first.headers["Link"]
    second = owner.get(f"/v1/api-keys?status=active&limit=2&cursor={cursor}")
    assert sorted(key["name"] for key in first.get_json() + second.get_json()) == names(owner, status="active")
    plain = owner.get("/v1/api-keys?limit=2").headers["X-Next-Cursor"]
    for query in (f"cursor={cursor}", f"status=paused&cursor={cursor}", f"status=active&cursor={plain}"):
        refused = owner.get(f"/v1/api-keys?{query}")
        assert (refused.status_code, refused.get_json()["errors"][0]["field"]) == (400, "cursor"), query
    assert owner.get(f"/v1/api-keys?limit=3&cursor={plain}").status_code == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=valid", "status"),
        ("unused_for=0", "unused_for"),
        ("expires_within=soon", "expires_within"),
        ("q=%00", "q"),
        ("q=", "q"),
        ("name=CI", "name"),
    ],
)
def test_wrong_filter_is_named(owner: Caller, query: str, field: str) -> None:
    refused = owner.get(f"/v1/api-keys?{query}")
    assert (refused.status_code, refused.get_json()["errors"][0]["field"]) == (400, field)


def test_expiry_is_announced_two_weeks_before(harness: AppHarness, alice: Caller) -> None:
    for days, announced in ((13, True), (15, False), (None, False)):
        expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
        caller = harness.bearer(harness.new_key("acme", expires_at=expires_at))
        for path in ("/v1/me", "/v1/agents/00000000-0000-4000-8000-000000000000"):
            found = caller.get(path).headers.get(EXPIRES_IN)
            assert (found is not None) == announced
            assert found is None or 0 < int(found) <= 13 * 86_400
    assert EXPIRES_IN not in alice.get("/v1/me").headers
