"""Refused origins: bounded against invented ones in memory and in the database, and kept while a database is away."""

from __future__ import annotations

import time
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
from kataven.usage import refused_origins
from kataven.usage.refused_origins import (
    MAX_ACCOUNTS,
    MAX_ORIGINS,
    MAX_STORED_ORIGINS,
    Counts,
    RefusedOrigins,
    last_day,
    write,
)

KEY, OTHER_KEY = UUID(int=1), UUID(int=2)
HOUR = 3600


class Store:
    """Stores in memory, or fails."""

    def __init__(self) -> None:
        self.written: list[tuple[str, Counts]] = []
        self.failing = False

    def write(self, account: str, counts: Counts) -> None:
        if self.failing:
            raise ConnectionError
        self.written.append((account, counts))

    def total(self) -> int:
        return int(sum(calls for _, counts in self.written for calls, _ in counts.values()))


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    yield from _database(postgres, ACCOUNT_SCHEMA.head)


@pytest.fixture
def engine(database: Engine) -> Engine:
    with database.begin() as connection:
        connection.execute(text("TRUNCATE widget_refusals"))
    return database


def _database(postgres: EmbeddedPostgres, revision: str) -> Iterator[Engine]:
    name = f"refused-{uuid4().hex[:8]}"
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        maintenance.create(name, Templates(server, ACCOUNT_SCHEMA).ensure(maintenance, revision))
    engine = create_engine(postgres.url(name), isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()
    with server.maintenance() as maintenance:
        maintenance.drop(name)


def this_hour(hours_ago: int = 0) -> int:
    return (int(time.time()) // HOUR - hours_ago) * HOUR


def of(origins: dict[str, int], key: UUID = KEY, hours_ago: int = 0) -> Counts:
    hour = this_hour(hours_ago)
    return {(hour, str(key), origin): (calls, hour + 1.0) for origin, calls in origins.items()}


def stored(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT origin, sum(calls)::int AS calls FROM widget_refusals GROUP BY 1"))
        return {row.origin: row.calls for row in rows}


def test_refusals_are_counted_by_account_key_and_origin() -> None:
    store = Store()
    counted = RefusedOrigins(store)
    for account, key, origin in (
        ("acme", KEY, "https://a.example"),
        ("acme", KEY, "https://a.example"),
        ("acme", OTHER_KEY, "https://a.example"),
        ("globex", KEY, "https://a.example"),
    ):
        counted.record(account, key, origin)
    counted.flush()
    by_account = {account: sorted(calls for calls, _ in counts.values()) for account, counts in store.written}
    assert by_account == {"acme": [1, 2], "globex": [1]}
    counted.flush()
    assert store.total() == 4, "nothing is written twice"


def test_invented_origins_are_counted_together_beyond_the_bound() -> None:
    store = Store()
    counted = RefusedOrigins(store, lambda: 1_000_000_000.0)
    for number in range(20 * MAX_ORIGINS):
        counted.record("acme", KEY, f"https://{number}.example")
    counted.record("acme", KEY, "https://1.example")
    counted.flush()
    ((_, counts),) = store.written
    assert len(counts) <= MAX_ORIGINS + 1
    assert store.total() == 20 * MAX_ORIGINS + 1, "no refusal is lost"
    assert counts[1_000_000_000 // HOUR * HOUR, str(KEY), "https://1.example"][0] == 2


def test_the_number_of_accounts_in_memory_is_bounded() -> None:
    store = Store()
    counted = RefusedOrigins(store)
    for number in range(MAX_ACCOUNTS + 50):
        counted.record(f"account-{number}", KEY, "https://a.example")
    counted.flush()
    assert len(store.written) == MAX_ACCOUNTS


def test_what_can_not_be_written_is_kept_and_written_later() -> None:
    store = Store()
    counted = RefusedOrigins(store)
    store.failing = True
    counted.record("acme", KEY, "https://a.example")
    counted.flush()
    counted.record("acme", KEY, "https://a.example")
    store.failing = False
    counted.flush()
    assert store.total() == 2


def test_counts_of_several_workers_are_added(engine: Engine) -> None:
    with Session(engine) as session:
        write(session, of({"https://a.example": 3}))
        write(session, of({"https://a.example": 4, "": 1}))
        found = last_day(session)
    assert [(refusal.origin, refusal.key_id, refusal.calls) for refusal in found] == [
        ("https://a.example", KEY, 7),
        ("", KEY, 1),
    ]


def test_the_database_keeps_a_bounded_number_of_origins_apart(engine: Engine) -> None:
    with Session(engine) as session:
        write(session, of({"https://known.example": 1}))
        for batch in range(4):
            write(session, of({f"https://{batch}-{number}.example": number + 1 for number in range(50)}))
        write(session, of({"https://known.example": 1, "https://new.example": 9}))
    origins = stored(engine)
    assert len(origins) == MAX_STORED_ORIGINS + 1
    assert origins["https://known.example"] == 2, "origins that are known remain apart"
    assert "https://new.example" not in origins
    assert sum(origins.values()) == 1 + 4 * sum(range(1, 51)) + 10, "no refusal is lost"
    assert "https://2-49.example" not in origins


def test_those_with_most_refusals_are_kept_apart_first(engine: Engine) -> None:
    with Session(engine) as session:
        write(session, of({f"https://{number}.example": number + 1 for number in range(MAX_STORED_ORIGINS + 20)}))
    assert f"https://{MAX_STORED_ORIGINS + 19}.example" in stored(engine)
    assert "https://0.example" not in stored(engine)


def test_old_counts_are_removed_and_not_shown(engine: Engine) -> None:
    with Session(engine) as session:
        write(session, of({"https://yesterday.example": 5}, hours_ago=30))
        assert [refusal.origin for refusal in last_day(session)] == []
        with engine.begin() as connection:
            connection.execute(text("UPDATE widget_refusals SET hour = hour - interval '30 hours'"))
        write(session, of({"https://now.example": 1}))
        assert [refusal.last_at > datetime.now(UTC) - timedelta(hours=2) for refusal in last_day(session)] == [True]
    assert set(stored(engine)) == {"https://now.example"}


def test_nothing_is_written_before_the_migration(postgres: EmbeddedPostgres) -> None:
    for engine in _database(postgres, "account_0007"):
        with Session(engine) as session:
            assert not refused_origins.is_available(session)
            write(session, of({"https://a.example": 1}))
