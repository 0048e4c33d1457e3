"""Batches in a real database: counted once, added up by several workers, and removed when they are old."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates
from kataven.usage import keys, policy, requests, series, store
from kataven.usage.outcomes import CallOutcome
from kataven.usage.pending import Batch, PendingUsage
from kataven.usage.policy import UsagePolicy
from kataven.usage.requests import RequestSearch
from kataven.usage.series import UsageGroup, UsageInterval
from tests.usage.test_recorder import KEY, OTHER_KEY, key, observed

POLICY = UsagePolicy()
NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)


@pytest.fixture
def engine(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    name = f"usage-store-{uuid4().hex[:8]}"
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        maintenance.create(name, Templates(server, ACCOUNT_SCHEMA).ensure(maintenance, ACCOUNT_SCHEMA.head))
    engine = create_engine(postgres.url(name), isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()
    with server.maintenance() as maintenance:
        maintenance.drop(name)


def batch(pending: PendingUsage, writer: str, sequence: int) -> Batch:
    return pending.take(writer, sequence)


def calls(number: int, at: datetime = NOW, key_id: str = KEY, **fields: object) -> PendingUsage:
    pending = PendingUsage(POLICY)
    for _ in range(number):
        pending.add(observed(at.timestamp(), key(key_id), **fields))  # type: ignore[arg-type]
    return pending


def write(engine: Engine, written: Batch) -> bool:
    with Session(engine) as session:
        return store.write(session, written)


def total(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text(f"SELECT coalesce(sum(calls), 0) FROM {table}")).scalar_one())


def test_a_batch_that_is_written_again_counts_once(engine: Engine) -> None:
    writer = str(uuid4())
    first = batch(calls(3), writer, 1)
    assert write(engine, first)
    assert not write(engine, first)
    assert write(engine, batch(calls(2), writer, 2))
    assert not write(engine, first)
    for table, period in (("usage_minutes", 1), ("usage_hours", 1), ("usage_addresses", 1), ("usage_totals", 2)):
        assert total(engine, table) == 5 * period, table


def test_workers_that_write_the_same_rows_at_once_lose_no_call(engine: Engine) -> None:
    def worker() -> None:
        writer = str(uuid4())
        for sequence in range(1, 21):
            pending = PendingUsage(POLICY)
            for key_id in (KEY, OTHER_KEY):
                for path in ("/a", "/b", "/c"):
                    pending.add(observed(NOW.timestamp(), key(key_id), path=path))
            assert write(engine, pending.take(writer, sequence))

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(engine, "usage_minutes") == total(engine, "usage_hours") == 4 * 20 * 6
    assert total(engine, "usage_totals") == 2 * 4 * 20 * 6


def test_the_last_call_is_the_latest_one_whichever_worker_writes_first(engine: Engine) -> None:
    write(engine, batch(calls(1, NOW, address="192.0.2.2"), str(uuid4()), 1))
    write(engine, batch(calls(1, NOW - timedelta(minutes=1), address="192.0.2.1"), str(uuid4()), 1))
    with Session(engine) as session:
        assert keys.last_calls(session, [UUID(KEY)])[UUID(KEY)].address == "192.0.2.2"


def test_old_rows_are_removed_in_portions(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "REMOVED_AT_ONCE", 2)
    writer = str(uuid4())
    old = datetime.now(UTC) - timedelta(days=3)
    for number in range(5):
        write(engine, batch(calls(1, old - timedelta(minutes=number)), writer, number + 1))
    write(engine, batch(calls(1, datetime.now(UTC)), writer, 6))
    with Session(engine) as session:
        assert [store.trim(session, POLICY) for _ in range(3)] == [True, True, False]
    assert total(engine, "usage_minutes") == 1
    assert total(engine, "usage_hours") == 6  # kept for 90 days
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM request_log")).scalar_one() == 1
        assert connection.execute(text("SELECT count(*) FROM usage_totals WHERE period = 60")).scalar_one() == 1


def test_the_request_log_keeps_the_latest_ones(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_LOGGED", 3)
    now = datetime.now(UTC)
    pending = PendingUsage(POLICY)
    for number in range(8):
        at = (now - timedelta(seconds=number)).timestamp()
        pending.add(observed(at, status=429, code="rate_limited", request_id=f"request-{number}"))
    write(engine, pending.take(str(uuid4()), 1))
    with Session(engine) as session:
        store.trim(session, POLICY)
        page = requests.listing(session, 10, None, RequestSearch(outcome=CallOutcome.LIMITED), POLICY.log_hours)
    assert [row.request_id for row in page.rows] == ["request-0", "request-1", "request-2"]


def test_requests_past_the_retention_are_not_returned_even_if_they_are_not_removed_yet(engine: Engine) -> None:
    old = datetime.now(UTC) - timedelta(hours=25)
    write(engine, batch(calls(1, old, request_id="too-old-1"), str(uuid4()), 1))
    with Session(engine) as session:
        assert not requests.listing(session, 10, None, RequestSearch(), POLICY.log_hours).rows


def test_more_groups_than_are_returned_are_added_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "MAX_GROUPS", 2)
    pending = PendingUsage(POLICY)
    for number, times in enumerate((5, 4, 3, 2)):
        for _ in range(times):
            caller = key(f"{number:08}-1111-1111-1111-111111111111")
            pending.add(observed(NOW.timestamp(), caller, path=f"/{number}"))
    write(engine, pending.take(str(uuid4()), 1))
    start, end = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
    for group in (UsageGroup.CALLER, UsageGroup.ROUTE):
        for interval in UsageInterval:
            with Session(engine) as session:
                found = series.counts(session, start, end, interval, group)
            assert [line.calls for line in found.lines] == [5, 4, 5], (group, interval)
            assert found.lines[-1].group == series.OTHERS


def test_refusals_since_a_moment_exclude_earlier_minutes(engine: Engine) -> None:
    now = datetime.now(UTC)
    writer = str(uuid4())
    for number, minutes in enumerate((200, 90, 45, 1)):
        at = now - timedelta(minutes=minutes)
        write(engine, batch(calls(1, at, status=403, code="revoked_credential"), writer, number + 1))
    with Session(engine) as session:
        codes = ["revoked_credential"]
        since = now - timedelta(minutes=50)
        assert keys.refused_since(session, UUID(KEY), codes, since) == 2
        assert keys.refused_since(session, UUID(KEY), codes, now - timedelta(minutes=100)) == 3
        assert keys.refused_since(session, UUID(KEY), codes, now - timedelta(days=5)) == 4
        assert keys.refused_since(session, UUID(OTHER_KEY), codes, now - timedelta(days=5)) == 0


def test_the_policy_is_longer_than_what_readers_rely_on() -> None:
    assert timedelta(hours=46) < policy.MINUTES_KEPT
    assert timedelta(hours=24) < policy.ADDRESSES_KEPT
