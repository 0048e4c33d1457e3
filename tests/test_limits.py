"""Rate limits on the running server: exact over all workers, fair, and released by workers that exit."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import redis

import app as factory
from kataven import settings
from kataven.dev.embedded.redis_server import EmbeddedRedis
from kataven.web.services import EXTENSION, Services
from tests.support.app_harness import AppHarness, Caller, new_account
from tests.support.gunicorn import Gunicorn
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

CLIENTS = 16
SLOT_SECONDS = 5


@pytest.fixture(scope="module")
def server(harness: AppHarness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    with Gunicorn(harness.environ, tmp_path_factory.mktemp("server") / "log", workers=4) as running:
        yield running


def account(harness: AppHarness, name: str, **limits: int) -> str:
    """Create an account with limits. Returns an API key."""
    new_account(harness.services, name)
    harness.set_limits(name, **limits)
    return harness.new_key(name)


def test_responses_contain_the_remaining_quota_and_429_names_the_limit(harness: AppHarness) -> None:
    caller = harness.bearer(account(harness, "counted", per_minute=2))
    first = caller.get("/v1/me")
    assert '"per-minute";q=2;w=60' in first.headers["RateLimit-Policy"]
    assert '"per-minute";r=1' in first.headers["RateLimit"]
    assert first.get_json()["limits"]["per_minute"] == {"limit": 2, "remaining": 1}
    caller.get("/v1/me")
    refused = caller.get("/v1/me", headers={"Accept": "text/plain"})
    assert (refused.status_code, refused.text) == (429, "rate_limited: per-minute (2) exceeded\n")
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    assert '"per-minute";r=0' in refused.headers["RateLimit"]
    assert caller.get("/v1/me").get_json()["detail"] == "per-minute (2) exceeded"


def test_requests_rejected_for_other_reasons_are_not_counted(harness: AppHarness) -> None:
    key = account(harness, "uncounted", per_minute=5)
    caller = harness.bearer(key)
    for _ in range(20):
        assert caller.post("/v1/api-keys", {}).status_code == 403
        assert caller.get("/v1/agents", headers={"X-Account-ID": "acme"}).status_code == 403
        assert harness.bearer(key[:-1]).get("/v1/agents").status_code == 400
    assert caller.get("/v1/me").get_json()["limits"]["per_minute"]["remaining"] == 4


def test_key_at_its_own_limit_does_not_affect_its_account(harness: AppHarness) -> None:
    quiet = account(harness, "shared-account")
    noisy = harness.bearer(harness.new_key("shared-account", limits={"per_minute": 3}))
    assert [noisy.get("/v1/me").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert noisy.get("/v1/me").get_json()["detail"] == "key-per-minute (3) exceeded"
    assert harness.bearer(quiet).get("/v1/me").status_code == 200


def test_four_workers_admit_exactly_the_limit(harness: AppHarness, server: Gunicorn) -> None:
    """Exact while Redis replies in time. On an overloaded machine, a worker can fall back to local limits."""

    def fallbacks() -> int:
        return server.log.read_text().count("falling back to local limits")

    def admitted(key: str) -> Counter[int]:
        def hammer(_: int) -> Counter[int]:
            with server.client(key) as client:
                return Counter(client.get("/v1/me").status_code for _ in range(60))

        with ThreadPoolExecutor(CLIENTS) as pool:
            return sum(pool.map(hammer, range(CLIENTS)), Counter[int]())

    for attempt in range(4):
        before = fallbacks()
        counted = admitted(account(harness, f"exact{attempt}", per_minute=600))
        if fallbacks() == before:
            break
    else:
        pytest.fail("Redis was too slow in each of four attempts")
    assert counted == {200: 600, 429: CLIENTS * 60 - 600}


def test_changed_limits_apply_in_every_worker(harness: AppHarness, server: Gunicorn) -> None:
    key = account(harness, "raised", per_minute=1_000)
    with server.client(key) as client:
        assert client.get("/v1/me").json()["limits"]["per_minute"]["limit"] == 1_000
    harness.set_limits("raised", per_minute=2_000)

    def seen() -> set[int]:
        limits = set()
        for _ in range(12):  # separate connections, which reach several workers
            with server.client(key) as client:
                limits.add(client.get("/v1/me").json()["limits"]["per_minute"]["limit"])
        return limits

    wait_until(lambda: seen() == {2_000}, 5)


def test_slots_of_a_killed_worker_are_released(harness: AppHarness, tmp_path: Path) -> None:
    key = account(harness, "crashed", concurrent=10)
    environ = {**harness.environ, "THREADS": "12"}
    with (
        Gunicorn(environ, tmp_path / "log", workers=1, application="tests.support.holding:api") as server,
        ThreadPoolExecutor(10) as pool,
        server.client(key) as client,
    ):
        held = [pool.submit(_hold, server, key) for _ in range(10)]
        wait_until(lambda: client.get("/v1/me").status_code == 429, 30, server.log.read_text)
        refused = client.get("/v1/me")
        assert refused.json()["detail"] == "concurrent (10) exceeded"
        assert int(refused.headers["Retry-After"]) == 1
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        assert not any(future.result() for future in held), "a held request received a response"
        wait_until(lambda: _left(server, key) == 9, SLOT_SECONDS + 10, server.log.read_text)


def _hold(server: Gunicorn, key: str) -> bool:
    """Whether the request received a response."""
    with server.client(key) as client, contextlib.suppress(httpx2.TransportError):
        while client.get("/held", timeout=120).status_code == 429:
            pass  # the request that checks for 429 held the last slot
        return True
    return False


def _left(server: Gunicorn, key: str) -> int | None:
    """The number of free slots, without the slot of this request."""
    try:
        with server.client(key) as client:
            response = client.get("/v1/me")
    except httpx2.TransportError:
        return None
    remaining: int | None = (
        response.json()["limits"]["concurrent"]["remaining"] if response.status_code == 200 else None
    )
    return remaining


def _status(server: Gunicorn, key: str) -> int:
    try:
        with server.client(key) as client:
            return client.get("/v1/me").status_code
    except httpx2.TransportError:
        return 0


def test_graceful_reload_loses_no_request_and_releases_all_slots(harness: AppHarness, tmp_path: Path) -> None:
    key = account(harness, "reloaded", concurrent=20)
    with Gunicorn(harness.environ, tmp_path / "log", workers=2) as server:
        before = set(server.worker_pids())
        with ThreadPoolExecutor(8) as pool:
            responses = [pool.submit(_status, server, key) for _ in range(60)]
            server.process.send_signal(signal.SIGHUP)
            responses += [pool.submit(_status, server, key) for _ in range(60)]
            assert Counter(future.result() for future in responses) == {200: 120}
        wait_until(lambda: not before & set(server.worker_pids()), 20, server.log.read_text)
        with server.client(key) as client:
            # On a busy machine, replies of Redis can be so slow that the worker enforces limits locally for a moment.
            wait_until(lambda: client.get("/readyz").json()["checks"]["limits"] == "ok", 60, server.log.read_text)
            assert client.get("/v1/me").json()["limits"]["concurrent"]["remaining"] == 19, server.log.read_text()


def test_request_waits_for_redis_once_and_invalid_credentials_never(
    harness: AppHarness, shared_redis: EmbeddedRedis
) -> None:
    key = account(harness, "watched")
    caller = harness.bearer(key)
    assert caller.get("/v1/agents").status_code == 200  # connected, verified and cached
    with commands_about("watched", shared_redis.url) as commands:
        assert caller.get("/v1/agents").status_code == 200
    assert commands == ["EVALSHA", "ZREM"], "one decision, and the slot is released without waiting"
    with commands_about("watched", shared_redis.url) as commands:
        for _ in range(5):
            assert harness.bearer(key[:-1]).get("/v1/agents", headers={"X-Account-ID": "watched"}).status_code == 400
    assert commands == []


@contextmanager
def commands_about(account: str, url: str) -> Iterator[list[str]]:
    """The names of the commands that clients send for an account in the block. Filled at the end of it."""
    commands: list[str] = []
    last = uuid.uuid4().hex
    with redis.Redis.from_url(url) as client, redis.Redis.from_url(url) as watching, watching.monitor() as monitor:
        client.ping()
        yield commands
        client.echo(last)
        for seen in monitor.listen():
            if last in seen["command"]:
                return
            if seen["client_type"] != "lua" and f"account:{{{account}}}" in seen["command"]:
                commands.append(seen["command"].split(" ")[0].upper())


def test_worker_without_redis_enforces_local_limits_and_counts_decisions(
    harness: AppHarness, server_folder: Path
) -> None:
    key = harness.new_key("acme")
    with EmbeddedRedis(server_folder / "stopped-redis", persistent=False) as server:
        application = factory.create_api(settings.load({**harness.environ, "KATAVEN_REDIS_URL": server.url}))
        services: Services = application.extensions[EXTENSION]
        services.start()
        caller = Caller(application, {"Authorization": f"Bearer {key}"})
        assert caller.get("/v1/me").status_code == 200
        assert services.fallback_stats.requests_decided_locally == 0
        assert caller.get("/readyz").get_json()["checks"]["limits"] == "ok"
    try:
        for _ in range(3):
            assert caller.get("/v1/me").status_code == 200
        assert services.fallback_stats.times_degraded == 1
        assert services.fallback_stats.requests_decided_locally == 3
        assert (
            caller.get("/readyz")
            .get_json()["checks"]["limits"]
            .startswith("degraded: this worker enforces limits locally, 3")
        )
    finally:
        services.stop()
