"""Unauthenticated callers: the lookups that they cause are bounded, and valid keys from the same address are served."""

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
    """Counts transactions in the system database and in account databases."""

    def __init__(self) -> None:
        self.system = 0
        self.accounts = 0


@pytest.fixture
def transactions(harness: AppHarness, monkeypatch: pytest.MonkeyPatch) -> Transactions:
    counted = Transactions()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted_call(*arguments: Any, **options: Any) -> Any:
            setattr(counted, name, getattr(counted, name) + 1)
            return function(*arguments, **options)

        return counted_call

    for name, owner in (("system", harness.services.directory.database), ("accounts", harness.services.registry)):
        monkeypatch.setattr(owner, "reading", counting(name, owner.reading))
        monkeypatch.setattr(owner, "rows", counting(name, owner.rows))
    return counted


@contextmanager
def allowed(kind: AddressBudgetKind) -> Iterator[Callable[[], float]]:
    """The number of lookups that the budget and the lane allow since the start of the block."""
    started = time.monotonic()

    def so_far() -> float:
        seconds = time.monotonic() - started
        return PER_MINUTE[kind] * (1 + seconds / 60) + BURST + PER_SECOND * seconds + 1

    yield so_far


def unused_address() -> dict[str, Any]:
    """An address without any counted requests."""
    return {"environ_base": {"REMOTE_ADDR": str(next(ADDRESSES))}}


def codes(responses: list[TestResponse]) -> Counter[str]:
    return Counter(response.get_json()["code"] for response in responses)


def test_lookups_for_three_thousand_guessed_keys_are_bounded_by_the_address_budget(
    harness: AppHarness, transactions: Transactions
) -> None:
    address_options = unused_address()
    valid = harness.bearer(harness.new_key("globex"))
    assert valid.get("/v1/me", **address_options).status_code == 200
    rejected, served = [], []
    with allowed(AddressBudgetKind.FAILED) as budget:
        before = transactions.accounts
        for number in range(3_000):
            guess = tokens.generate(TokenKind.API_KEY, "globex").text
            rejected.append(harness.bearer(guess).get("/v1/me", **address_options))
            if number % 100 == 0:
                served.append(valid.get("/v1/me", **address_options).status_code)
        looked_up = transactions.accounts - before
        assert looked_up <= budget() + len(served)
    assert served == [200] * 30
    found = codes(rejected)
    assert set(found) == {"invalid_credential", "rate_limited"}
    assert found["invalid_credential"] <= looked_up
    last = rejected[-1]
    assert (last.status_code, last.headers["Retry-After"]) == (429, "1")
    assert last.get_json()["detail"] == "failed-authentications (300) exceeded"
    new = harness.bearer(harness.new_key("globex"))
    statuses = [new.get("/v1/me", **address_options).status_code for _ in range(2)]
    assert statuses[-1] == 200, "a key that is not cached is served on its retry"


def test_lookups_for_nonexistent_accounts_are_bounded_by_the_subject_budget(
    harness: AppHarness, transactions: Transactions
) -> None:
    address_options = unused_address()
    token = harness.issuer.token(Persona("grace", "Grace", "globex", Role.OWNER))
    colleague = harness.issuer.token(Persona("heidi", "Heidi", "acme", Role.OWNER))
    assert harness.bearer(token, "globex").get("/v1/me", **address_options).status_code == 200
    rejected, served = [], []
    with allowed(AddressBudgetKind.SUBJECT) as budget:
        before = transactions.system
        for number in range(1_500):
            rejected.append(harness.bearer(token, f"nonexistent-{number}").get("/v1/me", **address_options))
            if number % 100 == 0:
                served.append(harness.bearer(token, "globex").get("/v1/me", **address_options).status_code)
                served.append(harness.bearer(colleague, "acme").get("/v1/me", **address_options).status_code)
        assert transactions.system - before <= budget() + 2 * len(served)
    assert set(codes(rejected)) == {"account_mismatch", "rate_limited"}
    assert served == [200] * 30


def test_repeated_requests_with_a_revoked_key_do_not_exhaust_the_address_budget(
    harness: AppHarness, transactions: Transactions
) -> None:
    address_options = unused_address()
    address = address_options["environ_base"]["REMOTE_ADDR"]
    revoked = harness.bearer(harness.new_key("globex", disabled_at=datetime.now(UTC)))
    before = transactions.accounts
    responses = [revoked.get("/v1/me", **address_options) for _ in range(PER_MINUTE[AddressBudgetKind.FAILED] + 50)]
    assert set(codes(responses)) == {"revoked_credential"}
    looked_up = transactions.accounts - before
    assert looked_up < PER_MINUTE[AddressBudgetKind.FAILED], "most of them were rejected from the cache"
    assert harness.services.limiter.addresses.exhausted(address, AddressBudgetKind.FAILED) is None


def test_new_account_is_accepted_immediately(harness: AppHarness) -> None:
    ivan = harness.user(Persona("ivan", "Ivan", "brand-new", Role.OWNER))
    address_options = unused_address()
    assert ivan.get("/v1/me", **address_options).get_json()["code"] == "account_mismatch"
    assert ivan.get("/v1/me", **address_options).get_json()["code"] == "account_mismatch"
    new = NewAccount("brand-new", "New", org_id("brand-new"))
    account_creation.create_account(Operator("test", harness.services), new)
    assert ivan.get("/v1/me", **address_options).status_code == 200
