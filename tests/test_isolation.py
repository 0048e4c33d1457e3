"""One account, one database: a user of globex can access nothing of acme, also under concurrent load."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.app_harness import AppHarness, Caller, new_account

THREADS = 16
REQUESTS_PER_THREAD = 25
ACCOUNTS = tuple(f"tenant-{n}" for n in range(6))


@pytest.fixture
def globex_key(harness: AppHarness) -> Caller:
    return harness.bearer(harness.new_key("globex"))


def test_resources_of_another_account_are_not_found_by_id(alice: Caller, charlie: Caller, globex_key: Caller) -> None:
    agent = alice.post("/v1/agents", {"name": "Acme's own"}).get_json()
    key = alice.post("/v1/api-keys", {"name": "Acme's own", "expiry": "30d"}).get_json()
    for caller in (charlie, globex_key):
        for path in (f"/v1/agents/{agent['id']}", f"/v1/agents/{agent['id']}/widget-settings"):
            assert caller.get(path).status_code == 404
            assert caller.patch(path, {}).status_code == 404
        assert caller.delete(f"/v1/agents/{agent['id']}").status_code == 404
    assert charlie.patch(f"/v1/api-keys/{key['id']}", {"disabled": True}).status_code == 404
    assert charlie.delete(f"/v1/api-keys/{key['id']}").status_code == 404
    assert alice.get(f"/v1/agents/{agent['id']}").get_json() == agent


def test_lists_contain_nothing_of_another_account(alice: Caller, charlie: Caller, globex_key: Caller) -> None:
    alice.post("/v1/agents", {"name": "Private to acme"})
    alice.post("/v1/api-keys", {"name": "Private to acme", "expiry": "30d"})
    for caller in (charlie, globex_key):
        for path in ("/v1/agents", "/v1/api-keys"):
            assert "Private to acme" not in caller.get(f"{path}?limit=200").text
    assert "Private to acme" not in charlie.get("/v1/audit-events?limit=200").text


def test_a_cursor_of_another_account_reveals_nothing(alice: Caller, charlie: Caller) -> None:
    for n in range(2):
        alice.post("/v1/agents", {"name": f"Acme {n}"})
    link = alice.get("/v1/agents?limit=1").headers["Link"]
    cursor = link.partition("cursor=")[2].partition(">")[0]
    listed = charlie.get(f"/v1/agents?limit=200&cursor={cursor}")
    assert listed.status_code == 200
    assert "Acme" not in listed.text


def test_an_account_header_never_chooses_a_database(harness: AppHarness, charlie: Caller, globex_key: Caller) -> None:
    for caller in (charlie, globex_key):
        response = caller.get("/v1/agents", headers={"X-Account-ID": "acme"})
        assert (response.status_code, response.get_json()["code"]) == (403, "account_mismatch")


def test_concurrent_requests_of_many_accounts_see_only_their_own_data(harness: AppHarness) -> None:
    for account in ACCOUNTS:
        new_account(harness.services, account)
    keys = {account: harness.bearer(harness.new_key(account)) for account in ACCOUNTS}
    for account, caller in keys.items():
        assert caller.post("/v1/agents", {"name": f"canary of {account}"}).status_code == 201

    def send_requests(seed: int) -> list[str]:
        choose = random.Random(seed)  # noqa: S311  the choice of accounts needs no secure randomness
        wrong = []
        for _ in range(REQUESTS_PER_THREAD):
            account = choose.choice(ACCOUNTS)
            response = keys[account].get("/v1/agents")
            names = {agent["name"] for agent in response.get_json()}
            if response.status_code != 200 or names != {f"canary of {account}"}:
                wrong.append(f"{account}: {response.status_code} {names}")
            if keys[account].get("/v1/me").get_json()["account"] != account:
                wrong.append(f"{account}: the identity of another account")
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        assert [wrong for result in pool.map(send_requests, range(THREADS)) for wrong in result] == []
