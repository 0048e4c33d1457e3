"""Fills an account and the system database with enough rows for paginated lists, by SQL within a few seconds.

Also for `make run`: python -m tests.hub.large SYSTEM_DATABASE_URL ACCOUNT. The accounts are rows without databases, so
remove the data folder afterwards.
"""

from __future__ import annotations

import sys

from sqlalchemy import Engine, create_engine, make_url, text

from tests.hub import large_usage

KEYS, AGENTS, EVENTS, ACCOUNTS, WIDGET_KEYS = 300, 500, 10_000, 1_000, 120
PERSON = "jwt:alice"

_AGENTS = """
INSERT INTO agents (id, name, description, category, status, greeting_mode, llm_model, voice_provider, auth_mode,
                    ringing_enabled, background_audio_enabled, background_audio_volume, noise_suppression_enabled,
                    created_by, created_at)
SELECT gen_random_uuid(), 'Agent ' || n, 'Answers number ' || n, 'sales', 'active', 'locked', 'gpt-4o', 'deepgram',
       'public', true, false, 0.5, true, :person, now() - n * interval '1 hour'
FROM generate_series(1, :count) n
"""
_KEYS = """
INSERT INTO api_keys (id, name, key_hash, pepper_id, hint, created_by, created_at, disabled_at, last_used_at,
                      expires_at, scopes, paused_at, browser_use_at, rotated_at)
SELECT gen_random_uuid(), 'Server ' || n, sha256(('large api key ' || n)::bytea), 'dev1', lpad(n::text, 8, '0'),
       :person, now() - n * interval '1 day', CASE WHEN n % 3 = 0 THEN now() - n * interval '1 minute' END,
       CASE WHEN n % 4 > 0 THEN now() - (n % 140) * n * interval '10 minutes' END,
       CASE WHEN n % 5 > 0 THEN now() + (n - 20) * interval '17 hours' END,
       CASE n % 6 WHEN 1 THEN ARRAY['agents:read', 'widget-keys:read'] WHEN 2 THEN ARRAY['agents:write']
                  WHEN 5 THEN ARRAY['agents:read', 'api-keys:read', 'widget-keys:read', 'widget-settings:read'] END,
       CASE WHEN n % 31 = 7 THEN now() END, CASE WHEN n % 29 = 5 THEN now() END,
       CASE WHEN n % 8 = 2 THEN now() - n * interval '2 hours' END
FROM generate_series(1, :count) n
"""
_WIDGET_KEYS = """
INSERT INTO widget_keys (id, name, key_hash, pepper_id, hint, domain_allowlist, agent_id, created_by, created_at)
SELECT gen_random_uuid(), 'Shop ' || n, sha256(('large widget key ' || n)::bytea), 'dev1', lpad(n::text, 8, '0'),
       ARRAY['shop-' || n || '.example'], pinned.id, :person, now() - n * interval '1 hour'
FROM generate_series(1, :count) n
JOIN (SELECT id, row_number() OVER (ORDER BY created_at) AS place FROM agents) pinned ON pinned.place = n
"""
_EVENTS = """
INSERT INTO audit_events (id, created_at, actor, actor_name, action, target, detail, address)
SELECT gen_random_uuid(), now() - n * interval '1 minute', 'jwt:person-' || n % 40, 'Person ' || n % 40,
       (ARRAY['agent.created', 'agent.changed', 'api_key.created', 'widget_key.changed'])[1 + n % 4],
       gen_random_uuid()::text, jsonb_build_object('name', 'Thing ' || n), '198.51.100.7'
FROM generate_series(1, :count) n
"""
_REVOCATIONS = """
INSERT INTO audit_events (id, created_at, actor, actor_name, action, target, detail)
SELECT gen_random_uuid(), disabled_at, :person, 'Alice', 'api_key.revoked', id::text,
       jsonb_build_object('name', name, 'hint', hint)
FROM api_keys WHERE disabled_at IS NOT NULL
"""
_ACCOUNTS = """
INSERT INTO accounts (account_id, account_name, database_name, server, status, schema_revision)
SELECT 'bulk-' || lpad(n::text, 4, '0'), (ARRAY['Bank', 'Bakery', 'Clinic'])[1 + n % 3] || ' Number ' || n,
       'bulk-' || lpad(n::text, 4, '0'), 'default', 'active', 'account_0002'
FROM generate_series(1, :count) n
"""
_TRAIL = """
INSERT INTO operator_events (id, at, actor, action, account_id, detail)
SELECT gen_random_uuid(), now() - n * interval '1 minute', 'jwt:operator-' || n % 20, 'account.created',
       'bulk-' || lpad((1 + n % 1000)::text, 4, '0'), jsonb_build_object('note', n)
FROM generate_series(1, :count) n
"""


def fill_account(engine: Engine) -> None:
    """Agents, keys, widget keys, events, and a week of usage in an account's database."""
    with engine.begin() as connection:
        for statement, count in (
            (_AGENTS, AGENTS),
            (_KEYS, KEYS),
            (_WIDGET_KEYS, WIDGET_KEYS),
            (_EVENTS, EVENTS),
            (_REVOCATIONS, 0),
        ):
            connection.execute(text(statement), {"person": PERSON, "count": count})
        large_usage.fill_usage(connection)


def fill_keys(engine: Engine) -> None:
    """Only the keys."""
    with engine.begin() as connection:
        connection.execute(text(_KEYS), {"person": PERSON, "count": KEYS})


def fill_system(engine: Engine) -> None:
    """Accounts without databases, an operator audit log, and how long revocations took."""
    with engine.begin() as connection:
        connection.execute(text(_ACCOUNTS), {"count": ACCOUNTS})
        connection.execute(text(_TRAIL), {"count": EVENTS})
    large_usage.fill_revocation_times(engine)


def main(system_url: str, account: str) -> None:
    """Fill the databases of a development run."""
    system = make_url(system_url)
    for url, fill in ((system.set(database=account), fill_account), (system, fill_system)):
        engine = create_engine(url)
        fill(engine)
        engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])
