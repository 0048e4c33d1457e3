"""The usage of the large account is what the pages and the API read, and is consistent as a worker's own usage is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session

from kataven.account.models import ApiKey, AuditEvent
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.system.revocation_history import CANARY, EVICTION, RECEIPT, REVOCATION, percentiles
from kataven.system.schema import ACCOUNT_SCHEMA, SYSTEM_SCHEMA
from kataven.tenancy.server import DatabaseServer
from kataven.tenancy.templates import Templates
from kataven.usage import keys, policy, receipts, refused_origins, requests, series, store
from kataven.usage.policy import UsagePolicy
from kataven.usage.requests import RequestSearch
from kataven.usage.series import UsageGroup, UsageInterval
from tests.hub import large, large_usage


@pytest.fixture(scope="module")
def engine(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    yield from _database(postgres, ACCOUNT_SCHEMA, large.fill_account)


@pytest.fixture(scope="module")
def system(postgres: EmbeddedPostgres) -> Iterator[Engine]:
    yield from _database(postgres, SYSTEM_SCHEMA, large_usage.fill_revocation_times)


def _database(postgres: EmbeddedPostgres, schema: Any, fill: Any) -> Iterator[Engine]:
    name = f"large-usage-{uuid4().hex[:8]}"
    server = DatabaseServer(make_url(postgres.url("postgres")))
    with server.maintenance() as maintenance:
        maintenance.create(name, Templates(server, schema).ensure(maintenance, schema.head))
    engine = create_engine(postgres.url(name), isolation_level="AUTOCOMMIT")
    filling = create_engine(postgres.url(name))
    fill(filling)
    filling.dispose()
    yield engine
    engine.dispose()
    with server.maintenance() as maintenance:
        maintenance.drop(name)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as opened:
        yield opened


def one(session: Session, statement: str) -> Any:
    return session.connection().execute(text(statement)).scalar_one()


def test_every_group_of_a_series_has_the_same_total(session: Session) -> None:
    now = datetime.now(UTC)
    week = one(session, "SELECT sum(calls) FROM usage_hours")
    assert week > 10_000
    for interval in (UsageInterval.HOUR, UsageInterval.DAY):
        for group in UsageGroup:
            found = series.counts(session, now - timedelta(days=8), now, interval, group)
            assert found.calls == week, (interval, group)
            assert found.lost.requests == 40
    day = one(session, "SELECT sum(calls) FROM usage_minutes WHERE minute >= now() - interval '24 hours'")
    for group in UsageGroup:
        found = series.counts(session, now - timedelta(hours=24), now, UsageInterval.MINUTE, group)
        assert 0 <= found.calls - day < 1_000, group  # the series starts at a whole minute


def test_hours_are_the_sums_of_their_minutes(session: Session) -> None:
    differing = one(
        session,
        """
        SELECT count(*) FROM (
            SELECT date_trunc('hour', minute, 'UTC') AS hour, caller, route, outcome, code, sum(calls) AS calls
            FROM usage_minutes GROUP BY 1, 2, 3, 4, 5
        ) AS summed FULL JOIN usage_hours USING (hour, caller, route, outcome, code)
        WHERE hour >= now() - interval '46 hours' AND summed.calls IS DISTINCT FROM usage_hours.calls
        """,
    )
    assert differing == 0


def test_every_logged_request_is_counted(session: Session) -> None:
    uncounted = one(
        session,
        """
        SELECT count(*) FROM (
            SELECT date_trunc('minute', created_at, 'UTC') AS minute, caller, route, outcome, code, count(*) AS logged
            FROM request_log GROUP BY 1, 2, 3, 4, 5
        ) AS log LEFT JOIN usage_minutes USING (minute, caller, route, outcome, code)
        WHERE calls IS NULL OR logged > calls
        """,
    )
    assert uncounted == 0
    assert 1_000 < one(session, "SELECT count(*) FROM request_log") <= policy.MAX_LOGGED


def test_the_log_is_read_page_by_page_with_refusals_of_several_codes(session: Session) -> None:
    page = requests.listing(session, 500, None, RequestSearch(), 24)
    log = [*page.rows]
    while page.next is not None:
        page = requests.listing(session, 500, page.next, RequestSearch(), 24)
        log += page.rows
    assert len(log) == one(session, "SELECT count(*) FROM request_log")
    codes = {request.code for request in log}
    assert codes >= {"", "rate_limited", "revoked_credential", "insufficient_scope", "invalid_request", "unavailable"}
    limited = next(request for request in log if request.status == 429)
    assert limited.limits[0]["left"] == 0
    assert requests.find(session, limited.request_id, 24).id == limited.id


def test_nothing_is_older_than_the_retention(session: Session) -> None:
    before = one(session, "SELECT count(*) FROM request_log"), one(session, "SELECT count(*) FROM usage_minutes")
    assert not store.trim(session, UsagePolicy())
    assert before == (
        one(session, "SELECT count(*) FROM request_log"),
        one(session, "SELECT count(*) FROM usage_minutes"),
    )


def test_keys_have_last_calls_addresses_and_refusals_after_their_revocation(session: Session) -> None:
    now = datetime.now(UTC)
    by_name = {key.name: key for key in session.query(ApiKey)}
    busy, revoked = by_name["Server 1"], by_name["Server 9"]
    preview = keys.preview(session, busy.id, now)
    assert preview.in_use
    assert preview.last is not None
    assert len(preview.addresses) == 2
    hours = keys.hourly(session, [busy.id], now - timedelta(days=1))[busy.id]
    assert sum(hours.values()) == sum(keys.by_key(session, [busy.id], now - timedelta(days=1))[busy.id].values())
    revocation = session.query(AuditEvent).filter_by(target=str(revoked.id), action="api_key.revoked").one()
    stored = receipts.read(session, revocation.id)
    assert stored.refused_calls
    assert stored.last_refused is not None
    assert [time["worker"] for time in stored.event.detail["times"]]
    assert stored.receipt["acknowledged"] == 4


def test_refused_pages_are_listed(session: Session) -> None:
    found = refused_origins.last_day(session)
    assert len(found) == 31
    assert found[-1].origin == ""


def test_receipts_of_every_kind_exist(session: Session) -> None:
    kinds = {
        ("lapsed" in event.detail["receipt"], "redis" in event.detail["receipt"])
        for event in session.query(AuditEvent).filter_by(action="api_key.revoked")
    }
    assert kinds == {(False, False), (True, False), (True, True)}


def test_revocation_times_cover_90_days_and_the_last_hour_by_the_minute(system: Engine) -> None:
    now = datetime.now(UTC)
    with Session(system) as session:
        for source in (CANARY, REVOCATION):
            for measure in (RECEIPT, EVICTION):
                days = percentiles(session, source, measure, now - timedelta(days=90), now, "day")
                assert 89 <= len(days) <= 91
                assert all(day.p50 <= day.p99 <= day.max for day in days)
        assert len(percentiles(session, CANARY, EVICTION, now - timedelta(hours=1), now)) >= 59
