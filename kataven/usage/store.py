"""Writes a batch of usage to an account's database exactly once, in one statement, and removes old rows.

A worker numbers its batches. The statement changes nothing if the batch with this number was written before, so a
worker that lost its connection before the reply writes the batch again.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from kataven.usage.pending import Batch
from kataven.usage.policy import ADDRESSES_KEPT, MAX_LOGGED, MINUTES_KEPT, WRITERS_KEPT, UsagePolicy

REMOVED_AT_ONCE = 5_000
"""How many rows of a table one statement removes, so that no statement takes long."""

_COUNTS = """
    INSERT INTO usage_{period}s AS stored ({period}, caller, route, outcome, code, kind, calls, seconds)
    SELECT to_timestamp({period}), caller, route, outcome, code, kind, calls, seconds
    FROM jsonb_to_recordset(CAST(:{period}s AS jsonb)) AS given({period} bigint, caller uuid, route text, outcome text,
                                                               code text, kind text, calls bigint, seconds float8)
    WHERE EXISTS (SELECT FROM fresh)
    ON CONFLICT ({period}, caller, route, outcome, code)
    DO UPDATE SET calls = stored.calls + excluded.calls, seconds = stored.seconds + excluded.seconds
"""

_WRITE = text(
    f"""
    WITH fresh AS (
        INSERT INTO usage_writers AS stored (writer, sequence, written_at) VALUES (:writer, :sequence, now())
        ON CONFLICT (writer) DO UPDATE SET sequence = excluded.sequence, written_at = excluded.written_at
        WHERE stored.sequence < excluded.sequence
        RETURNING 1
    ), minutes AS ({_COUNTS.format(period="minute")}), hours AS ({_COUNTS.format(period="hour")}), totals AS (
        INSERT INTO usage_totals AS stored (period, start, route, outcome, code, calls, seconds)
        SELECT period, to_timestamp(start), route, outcome, code, calls, seconds
        FROM jsonb_to_recordset(CAST(:totals AS jsonb)) AS given(period int2, start bigint, route text, outcome text,
                                                                code text, calls bigint, seconds float8)
        WHERE EXISTS (SELECT FROM fresh)
        ON CONFLICT (period, start, route, outcome, code)
        DO UPDATE SET calls = stored.calls + excluded.calls, seconds = stored.seconds + excluded.seconds
    ), addresses AS (
        INSERT INTO usage_addresses AS stored (hour, caller, address, agent, calls, last_at, route)
        SELECT to_timestamp(hour), caller, address, agent, calls, to_timestamp(at), route
        FROM jsonb_to_recordset(CAST(:addresses AS jsonb)) AS given(hour bigint, caller uuid, address text, agent text,
                                                                   calls bigint, at float8, route text)
        WHERE EXISTS (SELECT FROM fresh)
        ON CONFLICT (hour, caller, address, agent) DO UPDATE SET
        calls = stored.calls + excluded.calls, last_at = greatest(stored.last_at, excluded.last_at),
            route = CASE WHEN excluded.last_at > stored.last_at THEN excluded.route ELSE stored.route END
    ), callers AS (
        INSERT INTO usage_callers AS stored (caller, kind, last_at, address, agent, route, outcome, code)
        SELECT caller, kind, to_timestamp(at), address, agent, route, outcome, code
        FROM jsonb_to_recordset(CAST(:callers AS jsonb)) AS given(caller uuid, kind text, at float8, address text,
                                                                 agent text, route text, outcome text, code text)
        WHERE EXISTS (SELECT FROM fresh)
        ON CONFLICT (caller) DO UPDATE SET
        last_at = excluded.last_at, address = excluded.address, agent = excluded.agent, route = excluded.route,
            outcome = excluded.outcome, code = excluded.code
        WHERE stored.last_at < excluded.last_at
    ), log AS (
        INSERT INTO request_log (id, created_at, request_id, caller, kind, name, route, status, outcome, code, step,
                                 milliseconds, address, agent, limits)
        SELECT id, to_timestamp(at), request_id, caller, kind, name, route, status, outcome, code, step, milliseconds,
               address, agent, limits
        FROM jsonb_to_recordset(CAST(:log AS jsonb)) AS given(id uuid, at float8, request_id text, caller uuid,
                 kind text, name text, route text, status int2, outcome text, code text, step int2, milliseconds float8,
                 address text, agent text, limits jsonb)
        WHERE EXISTS (SELECT FROM fresh)
    ), losses AS (
        INSERT INTO usage_losses AS stored (hour, calls, requests)
        SELECT to_timestamp(hour), calls, requests
        FROM jsonb_to_recordset(CAST(:losses AS jsonb)) AS given(hour bigint, calls bigint, requests bigint)
        WHERE EXISTS (SELECT FROM fresh)
        ON CONFLICT (hour) DO UPDATE SET
        calls = stored.calls + excluded.calls, requests = stored.requests + excluded.requests
    )
    SELECT count(*) FROM fresh
    """  # noqa: S608  constants
)

_OLD = (
    ("usage_minutes", "", "minute", MINUTES_KEPT),
    ("usage_totals", "period = 60 AND ", "start", MINUTES_KEPT),
    ("usage_addresses", "", "hour", ADDRESSES_KEPT),
    ("usage_writers", "", "written_at", WRITERS_KEPT),
)

_REMOVE = """
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {table} WHERE {which}{column} < now() - make_interval(secs => :seconds) LIMIT :at_most
        FOR UPDATE SKIP LOCKED
    ))
"""

_REMOVE_EXCESS = text(
    """
    DELETE FROM request_log WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM request_log WHERE (created_at, id) <= (
            SELECT created_at, id FROM request_log ORDER BY created_at DESC, id DESC OFFSET :kept LIMIT 1
        ) LIMIT :at_most FOR UPDATE SKIP LOCKED
    ))
    """
)


def write(session: Session, batch: Batch) -> bool:
    """Write a batch, in a session in which each statement is a transaction. Returns False if it was written before."""
    written = session.connection().execute(
        _WRITE,
        {
            "writer": batch.writer,
            "sequence": batch.sequence,
            "minutes": batch.minutes,
            "hours": batch.hours,
            "totals": batch.totals,
            "addresses": batch.addresses,
            "callers": batch.callers,
            "log": batch.log,
            "losses": batch.losses,
        },
    )
    return bool(written.scalar_one())


def trim(session: Session, policy: UsagePolicy) -> bool:
    """Remove up to `REMOVED_AT_ONCE` old rows of each table. Returns whether more may remain. Workers may run it at the
    same time."""
    more = False
    days, hours = timedelta(days=policy.days), timedelta(hours=policy.log_hours)
    old = (
        *_OLD,
        ("usage_hours", "", "hour", days),
        ("usage_totals", "period = 3600 AND ", "start", days),
        ("usage_callers", "", "last_at", days),
        ("usage_losses", "", "hour", days),
        ("request_log", "", "created_at", hours),
    )
    execute = session.connection().execute
    for table, which, column, kept in old:
        statement = text(_REMOVE.format(table=table, which=which, column=column))
        removed = execute(statement, {"seconds": kept.total_seconds(), "at_most": REMOVED_AT_ONCE})
        more = more or removed.rowcount == REMOVED_AT_ONCE
    removed = execute(_REMOVE_EXCESS, {"kept": MAX_LOGGED, "at_most": REMOVED_AT_ONCE})
    return more or removed.rowcount == REMOVED_AT_ONCE
