"""`/api/accounts`: public, and limited to discoverable accounts."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from kataven.system import accounts
from kataven.system.models import AccountStatus
from tests.support.app_harness import AppHarness, Caller, new_account

LISTED = ("shown-a", "shown-b", "shown-c")


@pytest.fixture(scope="module", autouse=True)
def _accounts(harness: AppHarness) -> None:
    for account in (*LISTED, "shown-not", "shown-asleep"):
        new_account(harness.services, account)
    with harness.services.directory.database.writing() as session:
        for account in (*LISTED, "shown-asleep"):
            accounts.read(session, account).discoverable = True
        accounts.move(session, "shown-asleep", AccountStatus.SUSPENDED, AccountStatus.ACTIVE)


@pytest.fixture
def anonymous(harness: AppHarness) -> Caller:
    return harness.caller()


@pytest.mark.parametrize("prefix", ["", "/hub-api"])
def test_only_discoverable_active_accounts_are_listed(anonymous: Caller, prefix: str) -> None:
    found = anonymous.get(f"{prefix}/api/accounts?q=shown").get_json()
    assert found == [{"account": account, "name": account.title()} for account in LISTED]


def test_prefix_is_matched_literally(anonymous: Caller) -> None:
    assert anonymous.get("/api/accounts?q=shown_").get_json() == []
    assert anonymous.get("/api/accounts?q=%25").status_code == 400


def test_accounts_are_paginated(anonymous: Caller) -> None:
    seen: list[str] = []
    url: str | None = "/api/accounts?q=shown&limit=2"
    while url:
        page = anonymous.get(url)
        seen += [row["account"] for row in page.get_json()]
        parts = urlsplit(page.headers.get("Link", "")[1:].partition(">")[0])
        url = f"{parts.path}?{parts.query}" if parts.path else None
    assert tuple(seen) == LISTED


@pytest.mark.parametrize("prefix", ["", "/hub-api"])
@pytest.mark.parametrize(
    ("name", "valid", "reason"),
    [
        ("acme", True, None),
        ("shown-asleep", False, "no active account"),
        ("nobody", False, "no active account"),
        ("kataven-admin", False, "no active account"),
        ("Acme", False, "lower-case"),
        ("-acme", False, "must start with"),
        ("a" * 64, False, "at most 63"),
        ("a%20b", False, "lower-case"),
        ("%C3%A4", False, "lower-case"),
        ("%00", False, ""),
    ],
)
def test_account_name_is_validated(anonymous: Caller, prefix: str, name: str, valid: bool, reason: str | None) -> None:
    response = anonymous.get(f"{prefix}/api/accounts/validate/{name}")
    assert response.status_code == 200
    assert response.get_json()["valid"] is valid
    if reason is None:
        assert response.get_json() == {"account": name, "valid": True}
    else:
        assert reason in response.get_json()["reason"]
