"""What strangers cost on the running product: look-ups are bounded, and a good key beside them is served."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from werkzeug.test import TestResponse

from kataven.dev.personas import Persona, org_id
from kataven.identity import token as tokens
from kataven.identity.principal import Role
from kataven.identity.token import TokenKind
from kataven.operations import account_creation
from kataven.operations.account_creation import NewAccount
from kataven.operations.operator import Operator
from kataven.ratelimit.budget import PER_MINUTE, AddressBudgetKind
from kataven.ratelimit.lane import BURST, PER_SECOND
from tests.support.app_harness import AppHarness

ADDRESSES = ipaddress.ip_network("203.0.113.0/24").hosts()


class Transactions:
    """Counts those in the system database and in accounts' databases, where every request begins them."""

    def __init__(self) -> None:
        self.system = 0
        self.accounts = 0


@pytest.fixture
def transactions(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> Transactions:
    counted = Transactions()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def begin(*arguments: Any, **options: Any) -> Any:
            setattr(counted, name, getattr(counted, name) + 1)
            return function(*arguments, **options)

        return begin

    for name, owner in (("system", harness.services.directory.database), ("accounts", harness.services.registry)):
        monkeypatch.setattr(owner, "reading", counting(name, owner.reading))
    return counted


@contextmanager
def allowed(kind: AddressBudgetKind) -> Iterator[Callable[[], float]]:
    """How many look-ups the budget and the lane allow from the block's beginning until it is asked."""
    began = time.monotonic()

    def so_far() -> float:
        seconds = time.monotonic() - began
        return PER_MINUTE[kind] * (1 + seconds / 60) + BURST + PER_SECOND * seconds + 1

    yield so_far


def elsewhere() -> dict[str, Any]:
    """An address that nothing was counted for."""
    return {"environ_base": {"REMOTE_ADDR": str(next(ADDRESSES))}}


def codes(answers: list[TestResponse]) -> Counter[str]:
    return Counter(answer.get_json()["code"] for answer in answers)


def test_three_thousand_guesses_from_one_address_cost_what_its_budget_allows(
    harness: AppHarness, transactions: Transactions
) -> None:
    there = elsewhere()
    good = harness.bearer(harness.new_key("globex"))
    assert good.get("/v1/me", **there).status_code == 200
    refused, served = [], []
    with allowed(AddressBudgetKind.FAILED) as budget:
        before = transactions.accounts
        for number in range(3_000):
            guess = tokens.generate(TokenKind.API_KEY, "globex").text
            refused.append(harness.bearer(guess).get("/v1/me", **there))
            if number % 100 == 0:
                served.append(good.get("/v1/me", **there).status_code)
        looked_up = transactions.accounts - before
        assert looked_up <= budget() + len(served)
    assert served == [200] * 30
    found = codes(refused)
    assert set(found) == {"invalid_credential", "rate_limited"}
    assert found["invalid_credential"] <= looked_up
    last = refused[-1]
    assert (last.status_code, last.headers["Retry-After"]) == (429, "1")
    assert last.get_json()["detail"] == "failed-authentications (300) exceeded"
    new = harness.bearer(harness.new_key("globex"))
    statuses = [new.get("/v1/me", **there).status_code for _ in range(2)]
    assert statuses[-1] == 200, "a key that is new here gets in when it comes back"


def test_a_good_jwt_for_invented_accounts_costs_the_system_database_what_its_subjects_budget_allows(
    harness: AppHarness, transactions: Transactions
) -> None:
    there = elsewhere()
    token = harness.issuer.token(Persona("grace", "Grace", "globex", Role.OWNER))
    alice_there = harness.issuer.token(Persona("heidi", "Heidi", "acme", Role.OWNER))
    assert harness.bearer(token, "globex").get("/v1/me", **there).status_code == 200
    refused, served = [], []
    with allowed(AddressBudgetKind.SUBJECT) as budget:
        before = transactions.system
        for number in range(1_500):
            refused.append(harness.bearer(token, f"invented-{number}").get("/v1/me", **there))
            if number % 100 == 0:
                served.append(harness.bearer(token, "globex").get("/v1/me", **there).status_code)
                served.append(harness.bearer(alice_there, "acme").get("/v1/me", **there).status_code)
        assert transactions.system - before <= budget() + 2 * len(served)
    assert set(codes(refused)) == {"account_mismatch", "rate_limited"}
    assert served == [200] * 30


def test_an_ended_key_that_is_sent_on_and_on_leaves_its_addresss_budget_to_others(
    harness: AppHarness, transactions: Transactions
) -> None:
    there = elsewhere()
    address = there["environ_base"]["REMOTE_ADDR"]
    ended = harness.bearer(harness.new_key("globex", disabled_at=datetime.now(UTC)))
    before = transactions.accounts
    answers = [ended.get("/v1/me", **there) for _ in range(PER_MINUTE[AddressBudgetKind.FAILED] + 50)]
    assert set(codes(answers)) == {"revoked_credential"}
    looked_up = transactions.accounts - before
    assert looked_up < PER_MINUTE[AddressBudgetKind.FAILED], "most of them were refused from memory"
    assert harness.services.limiter.addresses.exhausted(address, AddressBudgetKind.FAILED) is None


def test_an_account_is_known_as_soon_as_it_is_made(harness: AppHarness) -> None:
    ivan = harness.person(Persona("ivan", "Ivan", "brand-new", Role.OWNER))
    there = elsewhere()
    assert ivan.get("/v1/me", **there).get_json()["code"] == "account_mismatch"
    assert ivan.get("/v1/me", **there).get_json()["code"] == "account_mismatch"
    new = NewAccount("brand-new", "New", org_id("brand-new"))
    account_creation.create_account(Operator("test", harness.services), new)
    assert ivan.get("/v1/me", **there).status_code == 200
