"""A week of usage for the large account, and 90 days of revocation times for the system database.

The rows are as `kataven.usage.store` and `kataven.system.revocation_history` write them: hours are the sums of their
minutes, totals are the sums over all callers, and each logged request is counted. What the retention removes is absent.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, text

from kataven.identity.people import Person

PEOPLE = 40
CALLING_PEOPLE = 3
RETRYING = "n % 9 = 0 AND n <= 27"
"""The revoked keys whose clients retry until now."""
ISSUER = "https://issuer.example"

_PEOPLE = """
INSERT INTO people (id, created_at, last_seen_at, issuer, sub, name, role)
SELECT id, now() - n * interval '2 days', now() - n * interval '25 minutes', :issuer, 'person-' || n, 'Person ' || n,
       (ARRAY['owner', 'admin', 'member', 'member'])[1 + n % 4]
FROM unnest(CAST(:people AS uuid[])) WITH ORDINALITY AS given(id, n)
ON CONFLICT (id) DO NOTHING
"""
_CALLERS = f"""
CREATE TEMPORARY TABLE large_callers ON COMMIT DROP AS
SELECT id, n, 'api_key' AS kind, name, greatest(created_at, now() - interval '7 days') AS starts,
       CASE WHEN disabled_at IS NULL AND n <= 20 THEN now() ELSE coalesce(disabled_at, last_used_at) END AS ends,
       CASE WHEN {RETRYING} THEN disabled_at END AS refused_from
FROM (SELECT *, CAST(substr(name, 8) AS integer) AS n FROM api_keys WHERE name ~ '^Server [0-9]+$') AS keys
WHERE n <= 31 AND last_used_at IS NOT NULL
UNION ALL
SELECT id, 100 + n, 'user', 'Person ' || n, now() - interval '3 days', now(), NULL
FROM unnest(CAST(:people AS uuid[])) WITH ORDINALITY AS given(id, n) WHERE n <= :calling
"""
_MIX = """
CREATE TEMPORARY TABLE large_mix ON COMMIT DROP AS
SELECT * FROM (VALUES
    (0, 90, 'ok', '', 0, 8), (90, 92, 'invalid', 'invalid_request', 400, 7), (92, 93, 'invalid', 'not_found', 404, 7),
    (93, 95, 'limited', 'rate_limited', 429, 6), (95, 97, 'refused', 'insufficient_scope', 403, 5),
    (97, 98, 'refused', 'address_not_allowed', 403, 3), (98, 99, 'refused', 'forbidden', 403, 5),
    (99, 100, 'failed', 'unavailable', 503, 7)
) AS mix(at_least, below, outcome, code, status, step)
"""
_ROUTES = """
CREATE TEMPORARY TABLE large_routes ON COMMIT DROP AS
SELECT * FROM (VALUES
    (0, 'GET /v1/agents', 200, 3.2), (1, 'GET /v1/agents/<agent_id>', 200, 2.1), (2, 'POST /v1/agents', 201, 9.4),
    (3, 'PATCH /v1/agents/<agent_id>', 200, 8.8), (4, 'GET /v1/me', 200, 0.9), (5, 'GET /v1/widget-keys', 200, 2.7)
) AS routes(place, route, success, milliseconds)
"""
_WEEK = """
CREATE TEMPORARY TABLE large_week ON COMMIT DROP AS
WITH minutes AS (
    SELECT date_trunc('minute', now(), 'UTC') - m * interval '1 minute' AS minute
    FROM generate_series(1, 7 * 1440) AS m
), busy AS (
    SELECT minute, callers.*, abs(hashtext(n || ' ' || minute::text)) AS chance,
           1 + cos((extract(hour FROM minute) - 14) * pi() / 12) AS daylight
    FROM minutes JOIN large_callers AS callers ON minute >= starts AND minute + interval '1 minute' <= ends
), calls AS (
    SELECT busy.*, routes.*, (chance / 7) % 100 AS draw FROM busy
    JOIN large_routes AS routes ON place = (chance / 5) % 6 OR (place = n % 6 AND chance % 3 = 0)
    WHERE chance % (n % 31 + 2) = 0
)
SELECT minute, id AS caller, kind, name, route, outcome, code,
       CASE WHEN status = 0 THEN success ELSE status END AS status, step,
       1 + (chance / 11) % CAST(2 + 8 * daylight AS integer) AS calls,
       milliseconds * (1 + (chance % 90) / 60.0) AS milliseconds,
       CASE WHEN chance % 9 = 0 THEN '198.51.100.' || n ELSE '203.0.113.' || n END AS address,
       (ARRAY['python-requests', 'kataven-python', 'node', 'curl', 'Go-http-client'])[1 + n % 5] AS agent
FROM calls JOIN large_mix ON draw >= at_least AND draw < below
UNION ALL
SELECT minute, id, kind, name, 'GET /v1/agents', 'refused', 'revoked_credential', 403, 3,
       1 + abs(hashtext(minute::text)) % 3, 0.7, '203.0.113.' || n, 'python-requests'
FROM minutes JOIN large_callers ON minute > refused_from
"""
_COUNTS = """
INSERT INTO usage_{period}s ({period}, caller, route, outcome, code, kind, calls, seconds)
SELECT date_trunc('{period}', minute, 'UTC'), caller, route, outcome, code, max(kind), sum(calls),
       sum(calls * milliseconds / 1000)
FROM large_week WHERE minute >= now() - interval '{kept}' GROUP BY 1, 2, 3, 4, 5
"""
_TOTALS = """
INSERT INTO usage_totals AS stored (period, start, route, outcome, code, calls, seconds)
SELECT {seconds}, date_trunc('{period}', minute, 'UTC'), route, outcome, code, sum(calls),
       sum(calls * milliseconds / 1000)
FROM large_week WHERE minute >= now() - interval '{kept}' GROUP BY 2, 3, 4, 5
ON CONFLICT (period, start, route, outcome, code)
DO UPDATE SET calls = stored.calls + excluded.calls, seconds = stored.seconds + excluded.seconds
"""
_ADDRESSES = """
INSERT INTO usage_addresses (hour, caller, address, agent, calls, last_at, route)
SELECT date_trunc('hour', minute, 'UTC'), caller, address, agent, sum(calls), max(minute) + interval '40 seconds',
       (array_agg(route ORDER BY minute DESC))[1]
FROM large_week WHERE minute >= now() - interval '47 hours' GROUP BY 1, 2, 3, 4
"""
_LAST_CALLS = """
INSERT INTO usage_callers (caller, kind, last_at, address, agent, route, outcome, code)
SELECT DISTINCT ON (caller) caller, kind, minute + interval '40 seconds', address, agent, route, outcome, code
FROM large_week ORDER BY caller, minute DESC
ON CONFLICT (caller) DO NOTHING
"""
_LAST_USES = """
UPDATE api_keys SET last_used_at = used.at,
                    expires_at = CASE WHEN expires_at < now() THEN now() + interval '75 days' ELSE expires_at END
FROM (
    SELECT caller, max(minute) + interval '40 seconds' AS at FROM large_week WHERE step > 3 GROUP BY caller
) AS used WHERE id = used.caller
"""
_LOG = """
INSERT INTO request_log (id, created_at, request_id, caller, kind, name, route, status, outcome, code, step,
                         milliseconds, address, agent, limits)
SELECT gen_random_uuid(), minute + call * interval '2.5 seconds' + interval '7 milliseconds',
       md5(caller::text || minute::text || route || call), caller, kind,
       CASE WHEN code = 'revoked_credential' THEN '' ELSE name END, route, status, outcome, code, step,
       round(CAST(milliseconds + call * 0.113 AS numeric), 3), address, agent,
       CASE WHEN step < 6 THEN '[]' ELSE jsonb_build_array(
           jsonb_build_object('limit', 'per-minute', 'quota', 300, 'resets_in', 60 - call,
                              'left', CASE WHEN outcome = 'limited' THEN 0 ELSE 300 - 9 * call END),
           jsonb_build_object('limit', 'per-hour', 'quota', 10000, 'left', 8400 - call, 'resets_in', 1860),
           jsonb_build_object('limit', 'concurrent', 'quota', 20, 'left', 19, 'resets_in', 0)) END
FROM large_week CROSS JOIN LATERAL generate_series(1, CASE WHEN outcome = 'ok' THEN 1 ELSE least(calls, 20) END) AS call
WHERE minute >= now() - interval '23 hours 58 minutes'
"""
_LOSSES = """
INSERT INTO usage_losses AS stored (hour, calls, requests)
VALUES (date_trunc('hour', now() - interval '3 days', 'UTC'), 12, 40)
ON CONFLICT (hour) DO UPDATE
SET calls = stored.calls + excluded.calls, requests = stored.requests + excluded.requests
"""
_REFUSED_PAGES = """
INSERT INTO widget_refusals (hour, key_id, origin, calls, last_at)
SELECT date_trunc('hour', now() - n % 20 * interval '1 hour', 'UTC'), id,
       CASE WHEN n = 31 THEN '' ELSE CASE WHEN n % 7 = 3 THEN 'http' ELSE 'https' END || '://shop-' || n || '.test' END,
       1 + n * n % 97, now() - n % 20 * interval '1 hour'
FROM (SELECT id, row_number() OVER (ORDER BY created_at DESC) AS n FROM widget_keys) AS keys WHERE n <= 31
"""
"""Origins that no worker would keep apart from others are under the empty origin."""
_RECEIPTS = """
UPDATE audit_events SET detail = audit_events.detail || receipts.detail FROM (
    SELECT event.id, jsonb_build_object(
        'receipt', CASE
            WHEN n % 30 = 0 THEN '{"workers": 4, "acknowledged": 0, "ms": 5012.4, "lapsed": 4, "redis": "unreachable"}'
            WHEN n % 21 = 0 THEN '{"workers": 4, "acknowledged": 3, "ms": 10104.7, "lapsed": 1}'
            ELSE jsonb_build_object('workers', 4, 'acknowledged', 4, 'ms', round((2.9 + n % 40 / 10.0), 1)) END
    ) || CASE WHEN n % 30 = 0 THEN '{}' ELSE jsonb_build_object('times', (
        SELECT jsonb_agg(jsonb_build_object('worker', left(md5('worker ' || w), 16),
                                            'heard_ms', round(0.4 + w * 0.21 + n % 7 / 9.0, 3),
                                            'forgotten_ms', round(0.9 + w * 0.34 + n % 7 / 9.0, 3)) ORDER BY w)
        FROM generate_series(1, CASE WHEN n % 21 = 0 THEN 3 ELSE 4 END) AS w)) END AS detail
    FROM (
        SELECT id, detail, CAST(substr(detail ->> 'name', 8) AS integer) AS n FROM audit_events
        WHERE action = 'api_key.revoked' AND detail ->> 'name' ~ '^Server [0-9]+$' AND NOT detail ? 'receipt'
    ) AS event
) AS receipts WHERE receipts.id = audit_events.id
"""
_REVOCATION_TIMES = """
INSERT INTO revocation_minutes (minute, source, measure, bucket, count, slowest_ms)
SELECT minute, source, measure, bucket, CASE WHEN source = 'canary' THEN 2 ELSE 1 + m % 3 END,
       0.05 * power(2, (bucket - 0.4) / 8.0)
FROM generate_series(0, 90 * 1440 - 10) AS m
CROSS JOIN LATERAL (SELECT date_trunc('minute', now(), 'UTC') - m * interval '1 minute' AS minute) AS at
JOIN (VALUES ('canary', 1, 10), ('revocation', 7, 45)) AS sources(source, every, later)
  ON m % CASE WHEN m < 2880 THEN every ELSE later END = 0
CROSS JOIN (VALUES ('receipt', 50), ('eviction', 37)) AS measures(measure, usual)
CROSS JOIN LATERAL (SELECT usual + abs(hashtext(source || measure || m)) % 6
                           + CASE WHEN m % 1440 = 600 THEN 14 ELSE 0 END AS bucket) AS slow
ON CONFLICT (minute, source, measure, bucket) DO NOTHING
"""
"""By the minute for two days, and every tenth minute before."""

MINUTES = {"period": "minute", "seconds": 60, "kept": "47 hours 50 minutes"}
HOURS = {"period": "hour", "seconds": 3600, "kept": "8 days"}
_STATEMENTS = (
    _PEOPLE,
    _CALLERS,
    _MIX,
    _ROUTES,
    _WEEK,
    *(_COUNTS.format(**kept) for kept in (MINUTES, HOURS)),
    *(_TOTALS.format(**kept) for kept in (MINUTES, HOURS)),
    _ADDRESSES,
    _LAST_CALLS,
    _LAST_USES,
    _LOG,
    _LOSSES,
    _REFUSED_PAGES,
    _RECEIPTS,
)


def fill_usage(connection: Connection) -> None:
    """Usage of the keys of `large.fill_account`, and receipts for their revocations."""
    people = [Person(ISSUER, f"person-{number}").id for number in range(1, PEOPLE + 1)]
    for statement in _STATEMENTS:
        words = text(statement)
        given = {"people": people, "issuer": ISSUER, "calling": CALLING_PEOPLE}
        connection.execute(words, {name: given[name] for name in words.compile().params})


def fill_revocation_times(engine: Engine) -> None:
    """How long revocations and canaries took, in the system database."""
    with engine.begin() as connection:
        connection.execute(text(_REVOCATION_TIMES))
