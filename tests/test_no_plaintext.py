"""No plaintext key is stored anywhere: every table of every database, Redis, and the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.embedded.redis_server import EmbeddedRedis
from tests.support.app_harness import AppHarness, Caller
from tests.support.servers import ask
from tests.support.walk import connected

TABLES = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""


def everything_stored(postgres: EmbeddedPostgres) -> str:
    """Every row of every table of every database, as text. One connection per database: there are a hundred."""
    return "\n".join(
        row
        for (database,) in ask(postgres, "SELECT datname FROM pg_database WHERE datallowconn")
        for row in _rows(postgres, str(database))
    )


def _rows(postgres: EmbeddedPostgres, database: str) -> Iterator[str]:
    with connected(postgres, database) as connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT t::text FROM {table} AS t")
            yield from (row for (row,) in cursor)


def test_no_plaintext_key_is_stored_anywhere(
    harness: AppHarness,
    alice: Caller,
    postgres: EmbeddedPostgres,
    shared_redis: EmbeddedRedis,
    capfd: pytest.CaptureFixture[str],
) -> None:
    repeatable = {"Idempotency-Key": "nowhere-one"}
    created = alice.post("/v1/api-keys", {"name": "Nowhere", "expiry": "30d"}, headers=repeatable).get_json()
    rotated = alice.post(f"/v1/api-keys/{created['id']}/rotate", {}, headers=repeatable).get_json()
    key = created["key"]
    caller = harness.bearer(key)
    responses = [
        caller.get("/v1/agents"),
        caller.get("/v1/me"),
        caller.post("/v1/agents", {"name": 1}),
        caller.post("/v1/api-keys", {}),
        caller.get("/v1/agents", headers={"X-Account-ID": "globex"}),
        harness.bearer(key[:-1]).get("/v1/agents"),
        alice.patch(f"/v1/api-keys/{created['id']}", {"disabled": True}),
        caller.get("/v1/agents"),
        alice.delete(f"/v1/api-keys/{created['id']}"),
        alice.get("/v1/audit-events?limit=200"),
    ]
    harness.services.last_used.flush()
    secret = key.rpartition("_")[2][:40]

    for response in responses:
        assert secret not in response.text
        assert secret not in str(response.headers)
    stored = everything_stored(postgres)
    assert "Nowhere" in stored, "the search sees what is stored"
    assert secret not in stored
    assert rotated["key"].rpartition("_")[2][:40] not in stored
    assert "nowhere-one" not in stored
    with redis.Redis.from_url(shared_redis.url) as client:
        for name in client.scan_iter():
            assert secret.encode() not in name
            assert secret.encode() not in (client.dump(name) or b"")
    logged = capfd.readouterr().err
    assert '"status":200' in logged, "the search sees what is logged"
    assert secret not in logged
    assert rotated["key"].rpartition("_")[2][:40] not in logged
    assert "nowhere-one" not in logged
    authorization = alice.headers["Authorization"].removeprefix("Bearer ")
    assert authorization not in logged
    assert authorization not in stored
