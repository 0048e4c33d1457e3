"""Checks the revocation guarantee on the complete product: two hosts with two workers each, eight threads, and faults.

`python -m bench.revocation` runs the same scenarios for a thousand rounds and measures how long revocations take.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from bench.scenarios import (
    HalfOpen,
    LostMessage,
    PausedWorker,
    RedisGone,
    RedisRestarted,
    RevokerCutOff,
    Scenario,
    SlowRead,
)
from bench.scenarios.connection import request
from bench.scenarios.environment import ACCOUNT, BENCH, Environment, Key, open_environment
from bench.scenarios.killed_revoker import is_disabled, revocation_of, revoker_host
from bench.scenarios.persistent_redis import RESTORED_DATA, RestoredData
from bench.scenarios.scenario import NO_FAULT, run_scenario
from bench.scenarios.score import Score
from bench.scenarios.site import Site, Worker, open_site
from kataven.account import api_keys
from kataven.account.models import AuditEvent
from kataven.revocation.cache import TTL_SECONDS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.processes

LEASE_SECONDS = 0.4
TIMEOUT_SECONDS = 30.0
MAX_ATTEMPTS = 10
"""A disabled rule may not be detected in the first attempt, because that depends on timing."""


@pytest.fixture(scope="module")
def environment() -> Iterator[Environment]:
    with open_environment() as environment:
        yield environment


@pytest.fixture(scope="module")
def site(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site") / "site"
    with open_site(environment, folder, lease_seconds=LEASE_SECONDS, proxied=True) as site:
        yield site


def assert_guarantee(scenario: Scenario) -> Score:
    """Run a scenario and check that no request was accepted after the receipt or rejected before the revocation."""
    score = run_scenario(scenario)
    assert score.accepted == 0
    assert not score.unexpected
    assert score.rounds == scenario.rounds
    # Two threads on each of four workers, each with two requests after each receipt.
    assert score.after_receipt >= 16 * scenario.rounds
    return score


def test_no_fault(site: Site) -> None:
    score = assert_guarantee(Scenario(site, 20))
    assert {receipt["workers"] for receipt in score.receipts[NO_FAULT]} == {4}
    assert score.evictions_ms


def test_paused_worker_receives_requests_before_it_resumes(site: Site) -> None:
    score = assert_guarantee(PausedWorker(site, 8))
    assert len(score.receipts["paused and resumed immediately"]) == 4
    assert all(receipt["lapsed"] >= 1 for receipt in score.receipts["paused until after the receipt"])


def test_redis_is_killed_and_restarted_with_any_data(site: Site) -> None:
    score = assert_guarantee(RedisRestarted(site, 26))
    # Each kind of data once before the revocation and once during it.
    assert {data: len(score.receipts[f"redis restarted, {data}"]) for data in RESTORED_DATA} == dict.fromkeys(
        RESTORED_DATA, 2
    )


def test_redis_is_unavailable_until_the_last_rounds(site: Site) -> None:
    pids = [host.worker_pids() for host in site.hosts]
    score = assert_guarantee(RedisGone(site, 12))
    assert all(used_fallback_notice(receipt) for receipt in score.receipts["redis gone"])
    assert any(receipt["acknowledged"] == 4 for receipt in score.receipts["redis back"])
    assert [host.worker_pids() for host in site.hosts] == pids


def test_half_open_connections_to_redis(site: Site) -> None:
    score = assert_guarantee(HalfOpen(site, 6))
    assert all(receipt["lapsed"] >= 2 for kind in ("dropped", "delayed") for receipt in score.receipts[kind])


def test_only_the_revoker_cannot_reach_redis(site: Site) -> None:
    score = assert_guarantee(RevokerCutOff(site, 3))
    assert all(used_fallback_notice(receipt) for receipt in score.receipts["revoker cut off"])


def test_published_events_are_lost(site: Site) -> None:
    losses = site.redis_proxy.losses
    score = assert_guarantee(LostMessage(site, 6))
    assert all(receipt["lapsed"] >= 2 for receipt in score.receipts["message lost"])
    assert site.redis_proxy.losses >= losses + 2 * score.rounds


def test_database_result_read_before_the_revocation_arrives_after_the_receipt(site: Site) -> None:
    score = assert_guarantee(SlowRead(site, 10))
    # Two threads on each of the two workers whose read is delayed.
    assert score.stale >= 4 * score.rounds


def test_key_whose_revoker_died_after_its_commit_is_rejected_by_every_worker(
    site: Site, environment: Environment, tmp_path: Path
) -> None:
    """No event was published. Workers find the revocation intent in the system database and evict the key."""
    site.wait_until_healthy()
    with revoker_host(site, tmp_path, LEASE_SECONDS, "bench.scenarios.dying_revoker:api") as revoker:
        key = environment.next_key()
        assert [status_of(worker, key.text) for worker in site.workers] == [200] * 4
        assert revoker.raw(revocation_of(site, key)) == b""
        assert is_disabled(site, key)
    # Much earlier than the cache entry would expire, 30 s after the last lookup.
    wait_until(lambda: [status_of(worker, key.text) for worker in site.workers] == [403] * 4, TTL_SECONDS / 3)
    assert audit_receipts_of(site, key) == [None]
    receipt = revoke(site, key, via=site.workers[0])
    assert receipt["acknowledged"] >= 4  # and the lease of the one that died expires
    assert audit_receipts_of(site, key) == [receipt]


@pytest.fixture(scope="module")
def site_with_rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    """Another site, and the file that names the rule that is disabled there.

    It needs a separate environment: workers with two home Redis servers at one system database always use fallback
    notices.
    """
    folder = tmp_path_factory.mktemp("saboteur")
    rule = folder / "rule"
    rule.touch()
    application = f"bench.scenarios.disabled_rules:api('{rule}')"
    with (
        open_environment() as environment,
        open_site(environment, folder / "site", lease_seconds=1.0, proxied=True, application=application) as site,
    ):
        yield site, rule


@pytest.mark.parametrize(
    ("rule", "scenario"),
    [
        ("evict", Scenario),
        ("lease", HalfOpen),
        ("epoch", LostMessage),
        ("fill tokens", SlowRead),
        ("other home", RedisRestarted),
        ("notices", RevokerCutOff),
    ],
)
def test_scenario_detects_a_disabled_rule(
    site_with_rules: tuple[Site, Path], rule: str, scenario: type[Scenario]
) -> None:
    site, disabled_rule = site_with_rules
    site.wait_until_healthy()
    disabled_rule.write_text(rule)
    try:
        assert any(run_scenario(scenario(site, 1)).accepted for _ in range(MAX_ATTEMPTS))
    finally:
        disabled_rule.write_text("")


@pytest.fixture
def site_without_redis(site: Site) -> Iterator[Site]:
    """The site after every worker has detected that Redis is unavailable and its lease has expired."""
    site.wait_until_healthy()
    site.redis.kill()
    try:
        wait_until(lambda: all(_is_degraded(worker) for worker in site.workers), TIMEOUT_SECONDS)
        yield site
    finally:
        site.redis.start_with(RestoredData.NOTHING)
        site.wait_until_healthy()


def test_without_redis_every_request_is_verified_in_the_database(site_without_redis: Site) -> None:
    assert not any(uses_cache(site_without_redis, worker) for worker in site_without_redis.workers)


def test_without_redis_readiness_is_degraded_and_not_failing(site_without_redis: Site) -> None:
    for worker in site_without_redis.workers:
        answer = worker.readiness()
        assert answer.status == 200
        assert answer.json()["status"] == "ready"
        assert answer.json()["checks"]["lease"].startswith("degraded")


def test_without_redis_a_revocation_uses_the_fallback_channel(site_without_redis: Site) -> None:
    for number, worker in enumerate(site_without_redis.workers):
        key = site_without_redis.environment.next_key()
        assert status_of(worker, key.text) == 200
        receipt = revoke(site_without_redis, key, via=worker)
        assert used_fallback_notice(receipt)
        assert [status_of(other, key.text) for other in site_without_redis.workers] == [403] * 4, number


def test_workers_use_their_caches_again_after_redis_recovered_without_a_restart(site: Site) -> None:
    pids = [host.worker_pids() for host in site.hosts]
    site.redis.kill()
    site.redis.start_with(RestoredData.NOTHING)
    for worker in site.workers:
        wait_until(lambda worker=worker: uses_cache(site, worker), TIMEOUT_SECONDS)  # type: ignore[misc]
    assert [host.worker_pids() for host in site.hosts] == pids


def uses_cache(site: Site, worker: Worker) -> bool:
    """Whether a worker still accepts a cached key after it was revoked in the database without an event."""
    key = site.environment.next_key()
    assert status_of(worker, key.text) == 200
    with site.parts.sessions.writing(ACCOUNT) as session:
        api_keys.revoke(session, UUID(key.id), BENCH)
    return status_of(worker, key.text) == 200


def used_fallback_notice(receipt: dict[str, Any]) -> bool:
    """Whether each worker read a fallback notice, without Redis. Another site may use the same system database."""
    return receipt["redis"] == "unreachable" and receipt["acknowledged"] == receipt["workers"] >= 4


def revoke(site: Site, key: Key, via: Worker) -> dict[str, Any]:
    """Revoke the key through `via` and return the receipt."""
    patch = request("PATCH", f"/v1/api-keys/{key.id}", site.owner_headers, {"disabled": True})
    receipt: dict[str, Any] = via.revoker.exchange(patch).json()["receipt"]
    return receipt


def audit_receipts_of(site: Site, key: Key) -> list[Any]:
    """The receipt in each audit event of the key's revocation."""
    with site.parts.sessions.reading(ACCOUNT) as session:
        events = select(AuditEvent).where(AuditEvent.action == "api_key.revoked", AuditEvent.target == key.id)
        found = [(event.id, event.detail.get("receipt")) for event in session.scalars(events)]
    return [None if receipt is None else {"id": str(event_id), **receipt} for event_id, receipt in found]


def status_of(worker: Worker, key: str) -> int:
    """The status that a worker returns for a key."""
    return worker.watcher.exchange(request("GET", "/v1/me", {"Authorization": f"Bearer {key}"})).status


def _is_degraded(worker: Worker) -> bool:
    checks = worker.readiness().json()["checks"]
    return bool(checks["redis"].startswith("degraded") and checks["lease"].startswith("degraded"))
