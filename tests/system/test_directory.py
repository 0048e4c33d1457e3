"""The caches of a worker for accounts and for unknown names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import make_url

from kataven.ratelimit.policy import Limits
from kataven.revocation import EVERYTHING, Guard, RevocationTarget
from kataven.revocation.epoch import Epoch, Event
from kataven.revocation.fallback.channel import FallbackNotice
from kataven.revocation.lease import Lease
from kataven.system.directory import (
    TTL_SECONDS,
    UNKNOWN_CAPACITY,
    UNKNOWN_TTL_SECONDS,
    AccountRecord,
    AccountStatus,
    Directory,
)
from kataven.tenancy.directory import Tenant
from tests.support.clock import Clock

URL = make_url("postgresql+psycopg2://h/acme")


class CountingDirectory(Directory):
    """A directory whose system database is a set of names."""

    def __init__(self, guard: Guard) -> None:
        database: Any = SimpleNamespace(url=URL)
        super().__init__(database, guard)
        self.there = {"acme"}
        self.read_names: list[str] = []

    def read(self, account: str, person: Any = None) -> AccountRecord | None:
        self.read_names.append(account)
        if account not in self.there:
            return None
        tenant = Tenant(account, URL, revision="account_0001")
        return AccountRecord(account, account, AccountStatus.ACTIVE, None, None, Limits(), tenant)


@pytest.fixture
def guard() -> Guard:
    clock = Clock()
    guard = Guard(Lease(1_000, clock), Lease(1_000, clock))
    guard.apply_notice(clock(), FallbackNotice(1, "a mark"))
    guard.home_written("redis")
    guard.confirm_lease(guard.lease.clock(), Epoch("redis", 1))
    return guard


@pytest.fixture
def directory(guard: Guard) -> CountingDirectory:
    return CountingDirectory(guard)


def advance(guard: Guard, seconds: float) -> None:
    clock = guard.lease.clock
    assert isinstance(clock, Clock)
    clock.advance(seconds)


def publish_creation(guard: Guard, account: str) -> None:
    """Deliver the event that creating an account publishes."""
    assert guard.epoch is not None
    after = Epoch(guard.epoch.redis, guard.epoch.count + 1)
    guard.apply_event(Event(guard.epoch, after, RevocationTarget(account), None))


def test_unknown_account_is_cached_for_a_moment(directory: CountingDirectory, guard: Guard) -> None:
    assert [directory.find("nobody") for _ in range(100)] == [None] * 100
    assert directory.read_names == ["nobody"]
    advance(guard, UNKNOWN_TTL_SECONDS)
    directory.find("nobody")
    assert directory.read_names == ["nobody"] * 2


def test_account_is_found_as_soon_as_its_event_is_received(directory: CountingDirectory, guard: Guard) -> None:
    assert directory.find("new") is None
    directory.there.add("new")
    publish_creation(guard, "new")
    found = directory.find("new")
    assert found is not None
    assert directory.find("new") is found
    assert directory.read_names == ["new"] * 2


def test_lookup_in_progress_during_the_creation_is_not_cached(guard: Guard) -> None:
    class Interrupted(CountingDirectory):
        def read(self, account: str, person: Any = None) -> AccountRecord | None:
            found = super().read(account)
            if not found:
                self.there.add(account)
                publish_creation(guard, account)
            return found

    directory = Interrupted(guard)
    assert directory.find("new") is None
    assert directory.find("new") is not None


def test_nothing_is_cached_without_a_lease(directory: CountingDirectory, guard: Guard) -> None:
    directory.find("nobody")
    guard.lease.drop()
    directory.find("nobody")
    assert directory.read_names == ["nobody"] * 2


def test_unknown_names_are_bounded_and_evict_no_account(directory: CountingDirectory) -> None:
    directory.find("acme")
    for number in range(2 * UNKNOWN_CAPACITY):
        directory.find(f"invented-{number}")
    directory.read_names.clear()
    assert directory.find("acme") is not None
    assert directory.find(f"invented-{2 * UNKNOWN_CAPACITY - 1}") is None
    assert directory.read_names == []
    directory.find("invented-0")
    assert directory.read_names == ["invented-0"], "the oldest was forgotten"


def test_account_is_cached_longer_and_dropped_by_a_flush(directory: CountingDirectory, guard: Guard) -> None:
    directory.find("acme")
    advance(guard, TTL_SECONDS - 1)
    directory.find("acme")
    assert directory.read_names == ["acme"]
    publish_creation(guard, "globex")
    directory.find("acme")
    assert directory.read_names == ["acme"]
    guard.apply_event(Event(Epoch("another", 1), Epoch("another", 2), EVERYTHING, None))
    directory.find("acme")
    assert directory.read_names == ["acme"] * 2
