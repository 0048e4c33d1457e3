"""`/api/accounts`: public, and limited to discoverable accounts."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from kataven.system import accounts
from kataven.system.models import AccountStatus
from tests.support.app_harness import AppHarness, Caller, new_account

SHOWN = ("shown-a", "shown-b", "shown-c")


@pytest.fixture(scope="module", autouse=True)
def _accounts(harness: AppHarness) -> None:
    for account in (*SHOWN, "shown-not", "shown-asleep"):
        new_account(harness.services, account)
    with harness.services.directory.database.writing() as session:
        for account in (*SHOWN, "shown-asleep"):
            accounts.read(session, account).discoverable = True
        accounts.move(session, "shown-asleep", AccountStatus.SUSPENDED, AccountStatus.ACTIVE)


@pytest.fixture
def stranger(harness: AppHarness) -> Caller:
    return harness.anybody()


@pytest.mark.parametrize("prefix", ["", "/hub-api"])
def test_only_discoverable_active_accounts_are_listed(stranger: Caller, prefix: str) -> None:
    found = stranger.get(f"{prefix}/api/accounts?q=shown").get_json()
    assert found == [{"account": account, "name": account.title()} for account in SHOWN]


def test_prefix_is_matched_literally(stranger: Caller) -> None:
    assert stranger.get("/api/accounts?q=shown_").get_json() == []
    assert stranger.get("/api/accounts?q=%25").status_code == 400


def test_accounts_are_paginated(stranger: Caller) -> None:
    seen: list[str] = []
    url: str | None = "/api/accounts?q=shown&limit=2"
    while url:
        page = stranger.get(url)
        seen += [row["account"] for row in page.get_json()]
        parts = urlsplit(page.headers.get("Link", "")[1:].partition(">")[0])
        url = f"{parts.path}?{parts.query}" if parts.path else None
    assert tuple(seen) == SHOWN


@pytest.mark.parametrize("prefix", ["", "/hub-api"])
@pytest.mark.parametrize(
    ("name", "valid", "reason"),
    [
        ("acme", True, None),
        ("shown-asleep", False, "no active account"),
        ("nobody", False, "no active account"),
        ("kataven-admin", False, "no active account"),
        ("Acme", False, "lower-case"),
        ("-acme", False, "starts with"),
        ("a" * 64, False, "at most 63"),
        ("a%20b", False, "lower-case"),
        ("%C3%A4", False, "lower-case"),
        ("%00", False, ""),
    ],
)
def test_account_name_is_validated(stranger: Caller, prefix: str, name: str, valid: bool, reason: str | None) -> None:
    answer = stranger.get(f"{prefix}/api/accounts/validate/{name}")
    assert answer.status_code == 200
    assert answer.get_json()["valid"] is valid
    if reason is None:
        assert answer.get_json() == {"account": name, "valid": True}
    else:
        assert reason in answer.get_json()["reason"]
