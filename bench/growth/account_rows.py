"""Agents, API keys and audit events in one account."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import text

from bench.growth.growth import Growth, Measure, Quantity
from kataven import assembly, settings
from kataven.dev.personas import ALICE
from kataven.identity.credential import ApiKeyCredential, Credential
from kataven.identity.verifier import Verifier
from kataven.system.limits import change
from tests.support.app_harness import PLENTY, AppHarness, Caller

ACCOUNT = ALICE.account

_AGENTS = """
INSERT INTO agents (id, name, description, category, status, greeting_mode, llm_model, voice_provider, auth_mode,
                    ringing_enabled, background_audio_enabled, background_audio_volume, noise_suppression_enabled,
                    created_by, created_at)
SELECT gen_random_uuid(), 'Agent ' || n, 'Number ' || n, 'sales', 'active', 'locked', 'gpt-4o', 'deepgram', 'public',
       true, false, 0.5, true, 'bench', now() - n * interval '1 minute'
FROM generate_series(:first, :last) n
"""
_KEYS = """
INSERT INTO api_keys (id, name, key_hash, pepper_id, hint, created_by, created_at, disabled_at, last_used_at,
                      expires_at, paused_at, browser_use_at)
SELECT gen_random_uuid(), 'Server ' || n, sha256(('growth ' || n)::bytea), 'dev1', lpad(n::text, 8, '0'), 'bench',
       now() - n * interval '1 minute', CASE WHEN n % 3 = 0 THEN now() END,
       CASE WHEN n % 4 > 0 THEN now() - n * interval '10 minutes' END,
       CASE WHEN n % 5 > 0 THEN now() + n * interval '1 hour' END, CASE WHEN n % 31 = 7 THEN now() END,
       CASE WHEN n % 100 = 2 THEN now() END
FROM generate_series(:first, :last) n
"""
_EVENTS = """
INSERT INTO audit_events (id, created_at, actor, actor_name, action, target, detail)
SELECT gen_random_uuid(), now() - n * interval '1 second', 'jwt:person-' || n % 40, 'Person ' || n % 40,
       (ARRAY['agent.created', 'agent.changed', 'api_key.created', 'widget_key.changed'])[1 + n % 4],
       md5((n % 5000)::text)::uuid::text, jsonb_build_object('name', 'Thing ' || n)
FROM generate_series(:first, :last) n
"""


def quantities(harness: AppHarness) -> Iterator[Quantity]:
    """What grows within an account."""
    with harness.services.directory.database.writing() as session:
        change(session, ACCOUNT, PLENTY)
    key = harness.new_key(ACCOUNT)
    server, owner = harness.bearer(key), harness.user(ALICE)
    configured = settings.load(harness.environ)
    verifier = assembly.local_verifier(configured, assembly.foundation(configured))  # without a lease: caches nothing
    yield Quantity(
        "agents of an account", (10, 100, 1_000), _rows(harness, "agents", _AGENTS), lambda _: _agents(server)
    )
    yield Quantity(
        "keys of an account",
        (2_000, 10_000, 100_000),  # the first size fills a page of each filter
        _rows(harness, "api_keys", _KEYS),
        lambda _: _api_keys(verifier, ApiKeyCredential(key, ACCOUNT), owner),
    )
    yield Quantity(
        "events in the audit log of an account",
        (100, 10_000, 100_000, 1_000_000),
        _rows(harness, "audit_events", _EVENTS),
        lambda _: _audit_events(owner),
    )


def _rows(harness: AppHarness, table: str, fill: str) -> Callable[[int], None]:
    filled = 0

    def grow(size: int) -> None:
        nonlocal filled
        record = harness.services.directory.read(ACCOUNT)
        assert record is not None
        for first in range(filled + 1, size + 1, 10_000):  # each within the statement timeout
            last = min(first + 9_999, size)
            with harness.services.registry.writing(record.tenant) as session:
                session.execute(text(fill), {"first": first, "last": last})
        filled = size
        with harness.services.registry.autocommit(record.tenant) as session:
            session.execute(text(f"ANALYZE {table}"))

    return grow


def _agents(server: Caller) -> Sequence[Measure]:
    agent = _get(server, "/v1/agents?limit=1")[0]["id"]
    return (
        Measure("GET /v1/agents", partial(_get, server, "/v1/agents")),
        Measure("GET /v1/agents?limit=3, the third page", partial(_third_page, server, "/v1/agents?limit=3")),
        Measure("GET /v1/agents/{id}", partial(_get, server, f"/v1/agents/{agent}")),
    )


def _api_keys(verifier: Verifier, credential: Credential, owner: Caller) -> Sequence[Measure]:
    lists = ("", "?status=active", "?status=paused", "?expires_within=14")
    scans = ("?unused_for=90", "?q=erver%2099", "?q=none")  # a part of a name, and the last use, have no index
    measures = [Measure(f"GET /v1/api-keys{query}", partial(_get, owner, f"/v1/api-keys{query}")) for query in lists]
    measures += [
        Measure(f"GET /v1/api-keys{query}", partial(_get, owner, f"/v1/api-keys{query}"), Growth.LINEAR)
        for query in scans
    ]
    measures.append(Measure("verifying a key that is not cached", partial(verifier.verify, credential)))
    return measures


def _audit_events(owner: Caller) -> Sequence[Measure]:
    filters = ("", "?action=api_key.created", "?actor=jwt:person-7", "?action=widget_key.changed&actor=jwt:person-7")
    filters = (*filters, "?action=api_key.revoked", "?actor=jwt:no-such-person")
    return [
        Measure(f"GET /v1/audit-events{query}", partial(_get, owner, f"/v1/audit-events{query}")) for query in filters
    ]


def _get(caller: Caller, path: str) -> Any:
    response = caller.get(path)
    assert response.status_code == 200, (path, response.status_code, response.text[:500])
    return response.json


def _third_page(caller: Caller, path: str) -> None:
    response = caller.get(path)
    for _ in range(2):
        response = caller.get(f"{path}&cursor={response.headers['X-Next-Cursor']}")
    assert len(response.json) == 3
