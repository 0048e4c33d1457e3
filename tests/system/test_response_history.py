"""How many requests of each account were refused by its limits or failed, by the minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from kataven.system import response_history
from kataven.system.errors import SystemDatabaseUnavailable
from kataven.system.response_history import MAX_PENDING, LimitedAccount, MinuteCounts, ResponseHistory
from tests.support.app_harness import AppHarness
from tests.support.clock import Clock

START = datetime.now(UTC).replace(second=0, microsecond=0)


@pytest.fixture
def clock(harness: AppHarness) -> Clock:
    with harness.services.directory.database.writing() as session:
        session.execute(text("DELETE FROM response_minutes"))
    return Clock(START.timestamp())


def test_only_refused_and_failed_requests_are_counted(harness: AppHarness, clock: Clock) -> None:
    database = harness.services.directory.database
    first, second = ResponseHistory(database, clock), ResponseHistory(database, clock)
    for status, account in ((200, "acme"), (404, "acme"), (429, "acme"), (429, None), (500, None), (503, "acme")):
        first.record(status, account)
    second.record(429, "acme")
    second.record(429, "globex")
    for history in (first, second, first):
        history.flush()
    clock.advance(60)
    first.record(429, "globex")
    first.record(429, "globex")
    first.flush()
    with database.reading() as session:
        assert response_history.by_minute(session, START) == [
            MinuteCounts(START, limited=3, failed=2),
            MinuteCounts(START + timedelta(minutes=1), limited=2, failed=0),
        ]
        assert response_history.most_limited(session, START, 5) == [
            LimitedAccount("globex", 3, START + timedelta(minutes=1)),
            LimitedAccount("acme", 2, START),
        ]
        assert len(response_history.most_limited(session, START, 1)) == 1
        assert response_history.by_minute(session, START + timedelta(minutes=2)) == []


def test_counts_are_kept_while_the_database_is_unavailable(
    harness: AppHarness, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = harness.services.directory.database
    history = ResponseHistory(database, clock)
    history.record(500, None)

    def unavailable() -> None:
        raise SystemDatabaseUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(database, "writing", unavailable)
        history.flush()
    history.record(500, None)
    history.stop()
    with database.reading() as session:
        assert [one.failed for one in response_history.by_minute(session, START)] == [2]


def test_memory_is_bounded_by_counting_accounts_together(harness: AppHarness, clock: Clock) -> None:
    history = ResponseHistory(harness.services.directory.database, clock)
    for number in range(MAX_PENDING + 10):
        history.record(429, f"account-{number}")
    assert len(history._pending) == MAX_PENDING + 1
    assert sum(history._pending.values()) == MAX_PENDING + 10


def test_old_minutes_are_removed(harness: AppHarness, clock: Clock) -> None:
    database, account = harness.services.directory.database, uuid4().hex
    old = ResponseHistory(database, Clock(START.timestamp() - 25 * 3_600))
    old.record(429, account)
    old.flush()
    new = ResponseHistory(database, clock)
    new.record(429, "acme")
    new.flush()
    with database.reading() as session:
        assert len(response_history.by_minute(session, START - timedelta(days=2))) == 1


def test_counts_are_dropped_before_the_system_database_is_migrated(
    harness: AppHarness, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = harness.services.directory.database
    monkeypatch.setattr(response_history, "system_has", lambda *_: False)
    history = ResponseHistory(database, clock)
    history.record(500, None)
    history.flush()
    with database.reading() as session:
        assert response_history.by_minute(session, START) == []
        assert response_history.most_limited(session, START, 5) == []
    monkeypatch.undo()
    with database.reading() as session:
        assert response_history.by_minute(session, START) == []
