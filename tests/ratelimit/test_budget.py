"""Client address budgets, which don't count toward account limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kataven.ratelimit.budget import NOT_BY_ADDRESS, AddressBudget, AddressBudgetKind
from kataven.ratelimit.limiter import Limiter
from kataven.ratelimit.policy import Limits
from kataven.ratelimit.redis_pool import RedisPool
from kataven.ratelimit.windows import RedisWindows
from tests.ratelimit.monitor import commands_during
from tests.ratelimit.workers import patient_limiter, peek
from tests.support.clock import Clock

MALLORY = "198.51.100.23"
NEIGHBOUR = "198.51.100.24"


@pytest.fixture
def budget(redis_windows: RedisWindows, clock: Clock) -> AddressBudget:
    return AddressBudget(redis_windows, per_minute=dict.fromkeys(AddressBudgetKind, 3), max_addresses=100, clock=clock)


@pytest.fixture
def limiter(redis_url: str) -> Iterator[Limiter]:
    limiter = patient_limiter(redis_url)
    yield limiter
    limiter.stop()


@pytest.mark.parametrize("kind", AddressBudgetKind)
def test_budget_is_exhausted_and_recovers_after_a_minute(
    budget: AddressBudget, clock: Clock, kind: AddressBudgetKind
) -> None:
    assert budget.exhausted(MALLORY, kind) is None
    assert [budget.spend(MALLORY, kind).admitted for _ in range(4)] == [True, True, True, False]
    refusal = budget.exhausted(MALLORY, kind)
    assert refusal is not None
    assert refusal.detail == f"{kind} (3) exceeded"
    assert refusal.retry_after_seconds == 60
    clock.advance(60)
    assert budget.exhausted(MALLORY, kind) is None


def test_budgets_are_separate_by_address_and_kind(budget: AddressBudget) -> None:
    while budget.spend(MALLORY, AddressBudgetKind.FAILED).admitted:
        pass
    assert budget.exhausted(NEIGHBOUR, AddressBudgetKind.FAILED) is None
    assert budget.exhausted(MALLORY, AddressBudgetKind.PUBLIC) is None


def test_addresses_of_one_ipv6_network_share_a_budget(budget: AddressBudget) -> None:
    for number in range(3):
        budget.spend(f"2001:db8::{number}", AddressBudgetKind.FAILED)
    assert budget.exhausted("2001:db8::ffff", AddressBudgetKind.FAILED) is not None
    assert budget.exhausted("2001:db8:0:1::1", AddressBudgetKind.FAILED) is None


def test_failed_authentications_need_no_redis_command(redis_url: str, limiter: Limiter) -> None:
    peek(limiter, "acme", Limits())
    with commands_during(redis_url) as commands:
        for _ in range(200):
            limiter.addresses.spend(MALLORY, AddressBudgetKind.FAILED)
            limiter.addresses.exhausted(MALLORY, AddressBudgetKind.FAILED)
    assert commands == []


def test_public_requests_are_counted_once_for_all_workers(redis_url: str, limiter: Limiter) -> None:
    other = patient_limiter(redis_url)
    limiter.addresses.spend(MALLORY, AddressBudgetKind.PUBLIC)
    assert other.addresses.spend(MALLORY, AddressBudgetKind.PUBLIC).quota_statuses[0].used == 2
    other.stop()


def test_valid_key_is_admitted_from_an_address_with_exhausted_budgets(limiter: Limiter) -> None:
    for kind in AddressBudgetKind:
        while limiter.addresses.spend(MALLORY, kind).admitted:
            pass
    admission = limiter.admit("acme", Limits())
    assert [quota_status.used for quota_status in admission.quota_statuses] == [1, 1, 1, 1]
    admission.release()


def test_account_over_its_limit_does_not_consume_address_budgets(limiter: Limiter) -> None:
    limiter.admit("acme", Limits(per_minute=1)).release()
    assert not peek(limiter, "acme", Limits(per_minute=1)).admitted
    assert limiter.addresses.spend(MALLORY, AddressBudgetKind.PUBLIC).quota_statuses[0].used == 1


def test_memory_for_failures_is_bounded(pool: RedisPool, clock: Clock) -> None:
    budget = AddressBudget(
        RedisWindows(pool, clock=clock), per_minute=dict.fromkeys(AddressBudgetKind, 1), max_addresses=10, clock=clock
    )
    for number in range(11):
        budget.spend(f"198.51.100.{number}", AddressBudgetKind.FAILED)
    assert budget.exhausted("198.51.100.0", AddressBudgetKind.FAILED) is None
    assert budget.exhausted("198.51.100.1", AddressBudgetKind.FAILED) is not None


@pytest.mark.parametrize("kind", [kind for kind in AddressBudgetKind if kind not in NOT_BY_ADDRESS])
def test_networks_of_one_ipv6_site_share_ten_times_the_budget(budget: AddressBudget, kind: AddressBudgetKind) -> None:
    admitted = [budget.spend(f"2001:db8:1:{number:x}::1", kind).admitted for number in range(40)]
    assert admitted == [True] * 30 + [False] * 10
    refusal = budget.exhausted("2001:db8:1:ffff::1", kind)
    assert refusal is not None
    assert refusal.detail == f"{kind}-of-network (30) exceeded"
    assert budget.exhausted("2001:db8:2::1", kind) is None
    assert budget.exhausted(MALLORY, kind) is None, "IPv4 has no wider network"
