"""Revoked means revoked, on the product as it runs: two hosts of two workers, eight threads, and what can go wrong.

`python -m bench.revocation` plays the same worlds a thousand rounds long, and says how long revocations take.
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
    RedisGone,
    RedisRestarted,
    RevokerCutOff,
    SlowRead,
    StoppedWorker,
    World,
)
from bench.scenarios.connection import request
from bench.scenarios.environment import ACCOUNT, BENCH, Ground, Key, laid
from bench.scenarios.killed_revoker import is_disabled, revocation_of, revoker_beside
from bench.scenarios.persistent_redis import MEMORIES, Memory
from bench.scenarios.scenario import CALM, play
from bench.scenarios.score import Score
from bench.scenarios.site import Site, Worker, opened_site
from kataven.account import api_keys
from kataven.account.models import AuditEvent
from kataven.revocation.cache import TTL_SECONDS
from tests.support.waiting import wait_until

LEASE_SECONDS = 0.4
PATIENCE_SECONDS = 30.0
MOST_TRIES = 10
"""A broken product need not be caught at once: whether it is depends on who is faster."""


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with laid() as ground:
        yield ground


@pytest.fixture(scope="module")
def site(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site") / "site"
    with opened_site(ground, folder, lease_seconds=LEASE_SECONDS, proxied=True) as site:
        yield site


def promise_kept(world: World) -> Score:
    """What was seen in a world in which nobody was let in after the receipt, nor refused before the revocation."""
    score = play(world)
    assert score.accepted == 0
    assert not score.odd
    assert score.rounds == world.rounds
    # Two threads on each of four workers, each with two requests after each receipt.
    assert score.after_receipt >= 16 * world.rounds
    return score


def test_nothing_goes_wrong(site: Site) -> None:
    score = promise_kept(World(site, 20))
    assert {receipt["workers"] for receipt in score.receipts[CALM]} == {4}
    assert score.evictions_ms


def test_a_worker_is_stopped_and_finds_requests_when_it_wakes(site: Site) -> None:
    score = promise_kept(StoppedWorker(site, 8))
    assert len(score.receipts["stopped and woken at once"]) == 4
    assert all(receipt["lapsed"] >= 1 for receipt in score.receipts["stopped until after the receipt"])


def test_redis_is_killed_and_comes_back_with_whatever_it_remembers(site: Site) -> None:
    score = promise_kept(RedisRestarted(site, 26))
    # Each of them once before the revocation and once during it.
    assert {memory: len(score.receipts[f"redis restarted, {memory}"]) for memory in MEMORIES} == dict.fromkeys(
        MEMORIES, 2
    )


def test_redis_is_gone_and_comes_back_in_the_end(site: Site) -> None:
    pids = [host.worker_pids() for host in site.hosts]
    score = promise_kept(RedisGone(site, 12))
    assert all(told_by_notice(receipt) for receipt in score.receipts["redis gone"])
    assert any(receipt["acknowledged"] == 4 for receipt in score.receipts["redis back"])
    assert [host.worker_pids() for host in site.hosts] == pids


def test_connections_to_redis_are_half_open(site: Site) -> None:
    score = promise_kept(HalfOpen(site, 6))
    assert all(receipt["lapsed"] >= 2 for kind in ("swallowed", "held back") for receipt in score.receipts[kind])


def test_the_revoker_alone_is_cut_off(site: Site) -> None:
    score = promise_kept(RevokerCutOff(site, 3))
    assert all(told_by_notice(receipt) for receipt in score.receipts["revoker cut off"])


def test_published_messages_are_lost(site: Site) -> None:
    losses = site.redis_proxy.losses
    score = promise_kept(LostMessage(site, 6))
    assert all(receipt["lapsed"] >= 2 for receipt in score.receipts["message lost"])
    assert site.redis_proxy.losses >= losses + 2 * score.rounds


def test_the_database_says_valid_after_the_receipt(site: Site) -> None:
    score = promise_kept(SlowRead(site, 10))
    # Two threads on each of the two workers that are told so late.
    assert score.stale >= 4 * score.rounds


def test_key_whose_revoker_died_after_its_commit_is_refused_by_every_worker_all_the_same(
    site: Site, ground: Ground, tmp_path: Path
) -> None:
    """Nothing was published. Workers find what was about to end in the system database, and forget it."""
    site.wait_until_well()
    with revoker_beside(site, tmp_path, LEASE_SECONDS, "bench.scenarios.dying_revoker:api") as revoker:
        key = ground.next_key()
        assert [show(worker, key.text) for worker in site.workers] == [200] * 4
        assert revoker.raw(revocation_of(site, key)) == b""
        assert is_disabled(site, key)
    # Much sooner than what is remembered would end by itself: 30 s after it was last asked about.
    wait_until(lambda: [show(worker, key.text) for worker in site.workers] == [403] * 4, TTL_SECONDS / 3)
    assert trail_of(site, key) == [None]
    receipt = revoke(site, key, via=site.workers[0])
    assert receipt["acknowledged"] >= 4  # and the one that died is waited out
    assert trail_of(site, key) == [receipt]


@pytest.fixture(scope="module")
def saboteur(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    """Another site, and the file that names the rule which is taken out there.

    On a ground of its own: workers of two Redis at one system database would all be told by notices.
    """
    folder = tmp_path_factory.mktemp("saboteur")
    rule = folder / "rule"
    rule.touch()
    application = f"bench.scenarios.disabled_rules:api('{rule}')"
    with (
        laid() as ground,
        opened_site(ground, folder / "site", lease_seconds=1.0, proxied=True, application=application) as site,
    ):
        yield site, rule


@pytest.mark.parametrize(
    ("rule", "world"),
    [
        ("forgetting", World),
        ("lease", HalfOpen),
        ("epoch", LostMessage),
        ("tickets", SlowRead),
        ("elsewhere", RedisRestarted),
        ("notices", RevokerCutOff),
    ],
)
def test_without_a_rule_its_world_notices(saboteur: tuple[Site, Path], rule: str, world: type[World]) -> None:
    site, taken_out = saboteur
    site.wait_until_well()
    taken_out.write_text(rule)
    try:
        assert any(play(world(site, 1)).accepted for _ in range(MOST_TRIES))
    finally:
        taken_out.write_text("")


@pytest.fixture
def redisless(site: Site) -> Iterator[Site]:
    """The site once every worker has noticed that Redis is gone and its lease has lapsed."""
    site.wait_until_well()
    site.redis.kill()
    try:
        wait_until(lambda: all(_is_degraded(worker) for worker in site.workers), PATIENCE_SECONDS)
        yield site
    finally:
        site.redis.come_back(Memory.NOTHING)
        site.wait_until_well()


def test_without_redis_every_request_is_verified_in_the_database(redisless: Site) -> None:
    assert not any(remembers(redisless, worker) for worker in redisless.workers)


def test_without_redis_readiness_says_degraded_and_not_failing(redisless: Site) -> None:
    for worker in redisless.workers:
        answer = worker.readiness()
        assert answer.status == 200
        assert answer.json()["status"] == "ready"
        assert answer.json()["checks"]["lease"].startswith("degraded")


def test_without_redis_a_revocation_says_so_and_holds(redisless: Site) -> None:
    for number, worker in enumerate(redisless.workers):
        key = redisless.ground.next_key()
        assert show(worker, key.text) == 200
        receipt = revoke(redisless, key, via=worker)
        assert told_by_notice(receipt)
        assert [show(other, key.text) for other in redisless.workers] == [403] * 4, number


def test_when_redis_is_back_workers_remember_again_without_a_restart(site: Site) -> None:
    pids = [host.worker_pids() for host in site.hosts]
    site.redis.kill()
    site.redis.come_back(Memory.NOTHING)
    for worker in site.workers:
        wait_until(lambda worker=worker: remembers(site, worker), PATIENCE_SECONDS)  # type: ignore[misc]
    assert [host.worker_pids() for host in site.hosts] == pids


def remembers(site: Site, worker: Worker) -> bool:
    """Whether a key that ended in the database, behind everybody's back, is still let in by a worker that knew it."""
    key = site.ground.next_key()
    assert show(worker, key.text) == 200
    with site.parts.sessions.writing(ACCOUNT) as session:
        api_keys.revoke(session, UUID(key.id), BENCH)
    return show(worker, key.text) == 200


def told_by_notice(receipt: dict[str, Any]) -> bool:
    """Whether each worker has read it, without Redis. Another site may be at the same system database."""
    return receipt["redis"] == "unreachable" and receipt["acknowledged"] == receipt["workers"] >= 4


def revoke(site: Site, key: Key, via: Worker) -> dict[str, Any]:
    """The receipt."""
    patch = request("PATCH", f"/v1/api-keys/{key.id}", site.alice, {"disabled": True})
    receipt: dict[str, Any] = via.revoker.ask(patch).json()["receipt"]
    return receipt


def trail_of(site: Site, key: Key) -> list[Any]:
    """The receipt in each event that says that the key was revoked."""
    with site.parts.sessions.reading(ACCOUNT) as session:
        events = select(AuditEvent).where(AuditEvent.action == "api_key.revoked", AuditEvent.target == key.id)
        return [event.detail.get("receipt") for event in session.scalars(events)]


def show(worker: Worker, key: str) -> int:
    """The status that a worker answers a key with."""
    return worker.watcher.ask(request("GET", "/v1/me", {"Authorization": f"Bearer {key}"})).status


def _is_degraded(worker: Worker) -> bool:
    checks = worker.readiness().json()["checks"]
    return bool(checks["redis"].startswith("degraded") and checks["lease"].startswith("degraded"))
