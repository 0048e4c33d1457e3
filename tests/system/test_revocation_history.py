"""How long revocations took, by the minute: percentiles of several processes, and the retention."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from kataven.revocation.latency_log import Percentiles
from kataven.revocation.receipt import Receipt
from kataven.system import revocation_history
from kataven.system.models import RevocationMinute
from kataven.system.revocation_history import (
    CANARY,
    EVICTION,
    RECEIPT,
    REVOCATION,
    RevocationHistory,
    bucket_of,
    middle_of,
)
from tests.support.app_harness import AppHarness, Caller

MINUTE = datetime(2026, 3, 1, 14, 3, tzinfo=UTC)


@pytest.fixture(autouse=True)
def empty(harness: AppHarness) -> None:
    with harness.services.directory.database.writing() as session:
        session.execute(delete(RevocationMinute))


def history(harness: AppHarness, measure: str, interval: str = "minute") -> list[revocation_history.MinutePercentiles]:
    with harness.services.directory.database.reading() as session:
        since, until = MINUTE - timedelta(days=1), MINUTE + timedelta(days=1)
        return list(revocation_history.percentiles(session, CANARY, measure, since, until, interval))


def add(harness: AppHarness, at: datetime, *receipts: Receipt) -> None:
    with harness.services.directory.database.writing() as session:
        revocation_history.add(session, CANARY, [(at.timestamp(), receipt) for receipt in receipts])


@pytest.fixture
def recent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' minute is within the retention."""
    monkeypatch.setattr(revocation_history, "RETENTION", datetime.now(UTC) - MINUTE + timedelta(days=2))


@pytest.mark.parametrize("milliseconds", [0.0, 0.05, 0.3, 1.0, 7.7, 1020.0, 90_000.0])
def test_a_bucket_is_close_to_its_durations(milliseconds: float) -> None:
    middle = middle_of(bucket_of(milliseconds))
    assert middle == pytest.approx(milliseconds, rel=0.05, abs=0.05)


@pytest.mark.usefixtures("recent")
def test_percentiles_of_several_processes_are_those_of_all_revocations(harness: AppHarness) -> None:
    chance = random.Random(1)  # noqa: S311  durations
    durations = [chance.lognormvariate(1.0, 0.8) for _ in range(400)]
    for process in range(4):  # each writes its own part
        add(harness, MINUTE + timedelta(seconds=process), *(Receipt(2, 2, ms) for ms in durations[process::4]))
    (found,) = history(harness, RECEIPT)
    expected = Percentiles.of(durations)
    assert expected is not None
    assert (found.at, found.count) == (MINUTE, 400)
    assert found.p50 == pytest.approx(expected.p50, rel=0.06)
    assert found.p99 == pytest.approx(expected.p99, rel=0.06)
    assert found.max == expected.max


@pytest.mark.usefixtures("recent")
def test_intervals_without_a_measurement_are_omitted(harness: AppHarness) -> None:
    add(harness, MINUTE, Receipt(2, 2, 3.0, 1.0), Receipt(2, 1, 1020.0))
    add(harness, MINUTE + timedelta(minutes=5), Receipt(2, 2, 4.0, 2.0))
    assert [(one.at, one.count) for one in history(harness, EVICTION)] == [
        (MINUTE, 1),
        (MINUTE + timedelta(minutes=5), 1),
    ]
    (hour,) = history(harness, RECEIPT, "hour")
    assert (hour.at, hour.count, hour.max) == (MINUTE.replace(minute=0), 3, 1020.0)


def test_what_is_older_than_the_retention_is_removed(harness: AppHarness) -> None:
    now = datetime.now(UTC)
    add(harness, now - revocation_history.RETENTION - timedelta(minutes=2), Receipt(1, 1, 1.0))
    add(harness, now, Receipt(1, 1, 1.0))
    with harness.services.directory.database.reading() as session:
        since = now - timedelta(days=365)
        found = revocation_history.percentiles(session, CANARY, RECEIPT, since, now + timedelta(minutes=1))
    assert [one.count for one in found] == [1]


def test_revocations_by_the_api_are_recorded(harness: AppHarness, alice: Caller) -> None:
    recorder = RevocationHistory(harness.services.directory.database)
    harness.services.revocation.canary.subscribe(recorder.record)
    created = alice.post("/v1/api-keys", {"name": "Measured", "expiry": "30d"}).get_json()
    receipt = alice.patch(f"/v1/api-keys/{created['id']}", {"disabled": True}).get_json()["receipt"]
    recorder.flush()
    now = datetime.now(UTC)
    with harness.services.directory.database.reading() as session:
        found = revocation_history.percentiles(session, REVOCATION, RECEIPT, now - timedelta(hours=1), now)
    assert any(abs(one.max - receipt["ms"]) < 0.1 for one in found)
