"""`Idempotency-Key`: a repeated request that creates returns the first response and creates nothing."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import make_url

from bench.scenarios.rotation_load import THREADS, rotate_under_load
from kataven.account import idempotency
from kataven.dev.embedded.postgres import EmbeddedPostgres
from kataven.dev.personas import ALICE
from kataven.identity.issuer import LocalIssuer
from kataven.identity.peppers import Pepper, PepperRing
from kataven.system.schema import ACCOUNT_SCHEMA
from kataven.tenancy.directory import Tenant
from kataven.tenancy.serving.registry import EngineRegistry
from tests.support.app_harness import AppHarness, Caller
from tests.support.gunicorn import Gunicorn
from tests.support.servers import ask
from tests.support.waiting import wait_until
from tests.support.walk import World, connected
from tests.tenancy.proxy import CountingProxy

BODIES: dict[str, dict[str, Any]] = {
    "/v1/agents": {"name": "Front desk", "background_audio_volume": 0.25, "system_prompt": "Grüße"},
    "/v1/api-keys": {"name": "CI", "expiry": "30d"},
    "/v1/widget-keys": {"name": "Site", "domain_allowlist": ["acme.com"]},
}
SECRETS = ("/v1/api-keys", "/v1/widget-keys")
REPLAYED = "Idempotent-Replayed"


def sent(caller: Caller, path: str, key: str, body: dict[str, Any] | None = None) -> Any:
    return caller.post(path, BODIES[path] if body is None else body, headers={"Idempotency-Key": key})


def rows(postgres: EmbeddedPostgres, table: str, account: str = "acme") -> int:
    with connected(postgres, account) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        (count,) = cursor.fetchone() or (0,)
        return int(count)


def age(postgres: EmbeddedPostgres, minutes: int) -> None:
    """Make every idempotency key of acme older."""
    ask(postgres, f"UPDATE idempotency_keys SET created_at = created_at - interval '{minutes} minutes'", "acme")


@pytest.mark.parametrize("path", BODIES)
def test_a_repeated_request_returns_the_first_response_and_creates_nothing(
    alice: Caller, postgres: EmbeddedPostgres, path: str
) -> None:
    key, table = str(uuid4()), path.removeprefix("/v1/").replace("-", "_")
    first = sent(alice, path, key)
    assert first.status_code == 201, first.text
    assert REPLAYED not in first.headers
    before = rows(postgres, table), rows(postgres, "audit_events")
    again = sent(alice, path, key)
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers[REPLAYED] == "true"
    for name in ("ETag", "Location", "Cache-Control", "Content-Type"):
        assert again.headers.get(name) == first.headers.get(name)
    assert (rows(postgres, table), rows(postgres, "audit_events")) == before


def test_the_response_is_the_first_one_after_the_resource_has_changed(alice: Caller) -> None:
    key = str(uuid4())
    first = sent(alice, "/v1/agents", key)
    agent = first.get_json()["id"]
    assert alice.patch(f"/v1/agents/{agent}", {"name": "Renamed"}).status_code == 200
    assert sent(alice, "/v1/agents", key).data == first.data
    assert alice.delete(f"/v1/agents/{agent}").status_code == 204
    assert sent(alice, "/v1/agents", key).data == first.data


def test_spaces_and_the_order_of_names_make_no_difference_and_values_do(alice: Caller) -> None:
    key = str(uuid4())
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    first = alice.post("/v1/agents", data=b'{"name": "A", "status": "draft"}', headers=headers)
    assert first.status_code == 201
    again = alice.post("/v1/agents", data=b' {"status":"draft","name":"\\u0041"}', headers=headers)
    assert again.data == first.data
    for body in ({"name": "B", "status": "draft"}, {"name": "A"}, {"name": "A", "status": "active"}):
        refused = sent(alice, "/v1/agents", key, body)
        assert (refused.status_code, refused.get_json()["code"]) == (409, "idempotency_mismatch")
    assert alice.post("/v1/agents", data=b'{"name": "A", "status": "draft"}', headers=headers).data == first.data


def test_a_key_belongs_to_one_caller_one_operation_and_one_account(
    harness: AppHarness, alice: Caller, charlie: Caller, acme_key: Caller
) -> None:
    key = str(uuid4())
    created = [sent(caller, "/v1/agents", key) for caller in (alice, charlie, acme_key)]
    created += [sent(caller, "/v1/widget-keys", key) for caller in (alice, acme_key)]
    created.append(sent(harness.bearer(harness.new_key("acme")), "/v1/agents", key))
    assert [response.status_code for response in created] == [201] * 6
    assert not any(REPLAYED in response.headers for response in created)
    assert len({response.get_json()["id"] for response in created}) == 6


@pytest.mark.parametrize("prefix", ["/api", "/hub-api/api"])
def test_the_deprecated_paths_are_the_same_operation(alice: Caller, prefix: str) -> None:
    key = str(uuid4())
    first = sent(alice, "/v1/agents", key)
    again = alice.post(f"{prefix}/v1/agents", BODIES["/v1/agents"], headers={"Idempotency-Key": key})
    assert (again.data, again.headers[REPLAYED]) == (first.data, "true")


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "tab\tin"])
def test_an_invalid_key_is_named(alice: Caller, key: str) -> None:
    headers = {"Idempotency-Key": key.encode().decode("latin-1")}
    refused = alice.post("/v1/agents", {"name": "A"}, headers=headers)
    assert (refused.status_code, refused.get_json()["errors"][0]["field"]) == (400, "Idempotency-Key")


def test_a_key_of_255_characters_is_accepted(alice: Caller) -> None:
    key = f"{uuid4()} ~" + "x" * 217
    assert len(key) == 255
    assert sent(alice, "/v1/agents", key).status_code == 201


def test_a_rejected_request_is_not_stored(alice: Caller, bob: Caller) -> None:
    key = str(uuid4())
    assert sent(alice, "/v1/agents", key, {"name": 1}).status_code == 400
    assert sent(bob, "/v1/agents", key).status_code == 403
    unknown = sent(alice, "/v1/widget-keys", key, {"name": "A", "agent_id": str(uuid4())})
    assert unknown.status_code == 400
    for path in ("/v1/agents", "/v1/widget-keys"):
        first = sent(alice, path, key)
        assert first.status_code == 201
        assert REPLAYED not in first.headers


def test_a_role_that_was_withdrawn_gets_no_replay(harness: AppHarness, alice: Caller) -> None:
    key = str(uuid4())
    own = harness.new_key("acme")
    assert sent(harness.bearer(own), "/v1/agents", key).status_code == 201
    key_id = next(row["id"] for row in alice.get("/v1/api-keys?limit=200").get_json() if own.endswith(row["hint"]))
    assert alice.patch(f"/v1/api-keys/{key_id}", {"disabled": True}).status_code == 200
    assert sent(harness.bearer(own), "/v1/agents", key).status_code == 403


@pytest.mark.parametrize("path", SECRETS)
def test_a_secret_is_returned_again_for_ten_minutes_and_is_not_stored(
    alice: Caller, postgres: EmbeddedPostgres, path: str
) -> None:
    key = str(uuid4())
    first = sent(alice, path, key)
    age(postgres, idempotency.SECRET_MINUTES - 1)
    assert sent(alice, path, key).data == first.data
    age(postgres, 2)
    late = sent(alice, path, key)
    assert (late.status_code, late.get_json()["code"]) == (409, "idempotency_secret_expired")
    for shown in (first.get_json()["id"], first.get_json()["hint"], first.get_json()["name"]):
        assert shown in late.get_json()["detail"]
    assert first.get_json()["key"] not in late.text


def test_the_nonce_of_a_secret_is_forgotten_at_a_later_creation(alice: Caller, postgres: EmbeddedPostgres) -> None:
    sent(alice, "/v1/api-keys", str(uuid4()))
    age(postgres, idempotency.SECRET_MINUTES + 1)
    sent(alice, "/v1/agents", str(uuid4()))
    with connected(postgres, "acme") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM idempotency_keys WHERE nonce IS NOT NULL")
        assert cursor.fetchone() == (0,)


def test_a_key_is_kept_for_24_hours_and_then_means_a_new_request(alice: Caller, postgres: EmbeddedPostgres) -> None:
    key, other = str(uuid4()), str(uuid4())
    first = sent(alice, "/v1/agents", key)
    sent(alice, "/v1/agents", other)
    age(postgres, 24 * 60 - 1)
    assert sent(alice, "/v1/agents", key).data == first.data
    age(postgres, 2)
    again = sent(alice, "/v1/agents", key)
    assert again.status_code == 201
    assert again.get_json()["id"] != first.get_json()["id"]
    assert sent(alice, "/v1/agents", key).data == again.data
    assert rows(postgres, "idempotency_keys") == 1  # the other one was deleted


def test_an_account_can_use_a_bounded_number_of_keys(
    alice: Caller, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(postgres, "DELETE FROM idempotency_keys", "acme")
    monkeypatch.setattr(idempotency, "MAX_PER_DAY", 2)
    keys = [str(uuid4()) for _ in range(3)]
    assert [sent(alice, "/v1/agents", key).status_code for key in keys] == [201, 201, 429]
    assert sent(alice, "/v1/agents", keys[0]).headers[REPLAYED] == "true"
    assert alice.post("/v1/agents", {"name": "A"}).status_code == 201
    age(postgres, 24 * 60)
    assert sent(alice, "/v1/agents", keys[2]).status_code == 201


def test_a_request_during_the_first_one_does_not_wait(
    harness: AppHarness, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, created, may_end = str(uuid4()), threading.Event(), threading.Event()
    keep = idempotency.keep

    def slow(*arguments: Any) -> None:
        created.set()
        assert may_end.wait(60)
        keep(*arguments)

    monkeypatch.setattr(idempotency, "keep", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(sent, alice, "/v1/agents", key)
        assert created.wait(60)
        during = sent(alice, "/v1/agents", key)
        may_end.set()
        assert first.result().status_code == 201
    assert (during.status_code, during.get_json()["code"]) == (409, "idempotency_in_progress")
    assert int(during.headers["Retry-After"]) >= 1
    assert sent(alice, "/v1/agents", key).data == first.result().data


def test_a_commit_between_the_lookup_and_the_lock_is_found(
    alice: Caller, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL takes the snapshot of the statement before the lock."""
    key, find = str(uuid4()), idempotency.find
    first = sent(alice, "/v1/agents", key)
    before, calls = rows(postgres, "agents"), []

    def missed_once(*arguments: Any) -> Any:
        calls.append(1)
        return None if len(calls) == 1 else find(*arguments)

    monkeypatch.setattr(idempotency, "find", missed_once)
    again = sent(alice, "/v1/agents", key)
    assert (again.data, again.headers[REPLAYED]) == (first.data, "true")
    assert rows(postgres, "agents") == before


@pytest.mark.parametrize("revision", [one for one in ACCOUNT_SCHEMA.window if one < "account_0004"])
def test_an_account_before_its_migration_refuses_the_header_only(
    harness: AppHarness, postgres: EmbeddedPostgres, revision: str
) -> None:
    world = World(harness, postgres, f"once-{revision.replace('_', '-')}", revision)
    body = BODIES["/v1/agents"]
    refused = world.key.post("/v1/agents", body, headers={"Idempotency-Key": "one"})
    assert (refused.status_code, refused.get_json()["code"]) == (503, "schema_mismatch")
    assert int(refused.headers["Retry-After"]) >= 1
    assert rows(postgres, "agents", world.account) == 1
    assert world.key.post("/v1/agents", body).status_code == 201


@pytest.fixture
def counted(harness: AppHarness) -> Iterator[tuple[CountingProxy, EngineRegistry, Tenant]]:
    with CountingProxy(make_url(harness.environ["KATAVEN_DATABASE_URL"])) as proxy:
        registry = EngineRegistry()
        yield proxy, registry, Tenant("acme", proxy.url.set(database="acme"))
        registry.close()


@pytest.mark.parametrize("path", BODIES)
def test_the_header_costs_two_round_trips_and_its_absence_none(
    harness: AppHarness,
    alice: Caller,
    counted: tuple[CountingProxy, EngineRegistry, Tenant],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    proxy, registry, tenant = counted
    monkeypatch.setattr(harness.services.registry, "writing", lambda _: registry.writing(tenant))

    def round_trips(request: Callable[[], Any]) -> int:
        before = proxy.round_trips
        assert request().status_code == 201
        return proxy.round_trips - before

    alice.post(path, BODIES[path])  # connects
    without, key = round_trips(lambda: alice.post(path, BODIES[path])), str(uuid4())
    assert round_trips(lambda: sent(alice, path, key)) <= without + 2
    assert round_trips(lambda: sent(alice, path, key)) <= 3  # begin, find, commit


def test_a_derived_key_depends_on_each_part_of_its_seed() -> None:
    ring = PepperRing([Pepper("b", b"b" * 32), Pepper("a", b"a" * 32)])
    attempt = idempotency.Attempt.of("jwt:alice", "createApiKey", "one", b"{}")
    other = idempotency.Attempt(b"x" * 32, b"", "one", attempt.nonce)
    unlike = idempotency.Attempt(attempt.id, b"", "two", attempt.nonce)
    from kataven.identity.token import TokenKind

    def text(seed: Any, kind: TokenKind = TokenKind.API_KEY, account: str = "acme") -> str:
        return LocalIssuer(ring).issue(kind, account, seed).text

    seed = attempt.seed()
    assert text(seed) == text(seed) == text(attempt.seed(pepper_id="b"))
    secrets = {
        text(changed).rpartition("_")[2]
        for changed in (seed, attempt.seed(b"n" * 32), other.seed(), unlike.seed(), attempt.seed(pepper_id="a"))
    }
    secrets |= {text(seed, TokenKind.WIDGET_KEY).rpartition("_")[2], text(seed, account="globex").rpartition("_")[2]}
    assert len(secrets) == 7


@pytest.mark.parametrize("killed", [False, True], ids=["calm", "killed"])
def test_one_row_and_one_response_while_workers_are_killed(
    harness: AppHarness, postgres: EmbeddedPostgres, gunicorn: Gunicorn, killed: bool
) -> None:
    token, key = harness.issuer.token(ALICE), str(uuid4())
    name = f"Once {key}"
    start, stopped = threading.Barrier(21), threading.Event()

    def repeat(_: int) -> bytes:
        start.wait(60)
        while not stopped.is_set():
            try:
                with gunicorn.client(token, "acme") as client:
                    response = client.post(
                        "/v1/api-keys", json={"name": name, "expiry": "30d"}, headers={"Idempotency-Key": key}
                    )
            except httpx2.RequestError:
                continue
            if response.status_code == 201:
                return response.content
            assert response.status_code in (409, 503), response.text
            assert response.status_code == 503 or response.json()["code"] == "idempotency_in_progress"
        raise AssertionError("no response")

    def replaced(pid: int) -> bool:
        workers = gunicorn.worker_pids()
        return pid not in workers and len(workers) == 2

    def kill() -> None:
        start.wait(60)
        for _ in range(6 if killed else 0):
            pid = gunicorn.worker_pids()[0]
            os.kill(pid, signal.SIGKILL)
            wait_until(functools.partial(replaced, pid), 60)

    with ThreadPoolExecutor(21) as pool:
        responses = [pool.submit(repeat, number) for number in range(20)]
        killing = pool.submit(kill)
        try:
            killing.result()
            found = {response.result(60) for response in responses}
        finally:
            stopped.set()
    assert len(found) == 1
    with connected(postgres, "acme") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM api_keys WHERE name = %s", (name,))
        assert cursor.fetchone() == (1,)


def test_rotations_under_load_refuse_and_accept_each_secret_at_the_right_time(
    harness: AppHarness, gunicorn: Gunicorn
) -> None:
    """`python -m bench.rotation --rounds 1000` runs it for longer."""
    with gunicorn.client(harness.issuer.token(ALICE), "acme") as owner:
        load = rotate_under_load(owner, gunicorn.client, 3)
    assert load.wrong == []
    assert load.receipts == 3
    assert load.refused >= 3 * THREADS


@pytest.mark.parametrize("path", ["/v1/api-keys/{}/rotate"])
def test_two_rotations_at_once_leave_one_usable_secret(harness: AppHarness, gunicorn: Gunicorn, path: str) -> None:
    with gunicorn.client(harness.issuer.token(ALICE), "acme") as owner:
        created = owner.post("/v1/api-keys", json={"name": "Raced", "expiry": "30d"}).json()
        start = threading.Barrier(4)

        def rotate(_: int) -> httpx2.Response:
            start.wait(60)
            return owner.post(path.format(created["id"]), json={})

        with ThreadPoolExecutor(4) as pool:
            responses = list(pool.map(rotate, range(4)))
        assert {response.status_code for response in responses} == {200}
        secrets = [response.json()["key"] for response in responses]
        statuses = []
        for secret in (created["key"], *secrets):
            with gunicorn.client(secret) as client:
                statuses.append(client.get("/v1/me").status_code)
    assert sorted(statuses) == [200, 200, 403, 403, 403], "the first secret, and the last"
    assert statuses[0] == 200


@pytest.fixture(scope="module")
def gunicorn(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("once") / "log", workers=2) as server:
        yield server
