"""`python -m bench.regions`: the simulated protocol keeps the guarantee, and loses it if a rule is taken out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.regions import __main__ as command
from bench.regions import capacity
from bench.regions.protocol import RULES
from bench.regions.scenarios import SCENARIOS, WARM_SECONDS, History, Scenario, run
from kataven.dev.embedded.redis_server import EmbeddedRedis

WORKERS, INTERVAL = 2, 0.25
SEEDS = range(11, -1, -1)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
LOSSY = replace(BY_NAME["lossy network"], loss=0.2, event_loss=0.05)
"""More losses than in the benchmark, because the tests have fewer workers."""
FOUND_IN: dict[str, Scenario] = {
    "region lease": BY_NAME["one region cut off, and back"],
    "round before heartbeat": BY_NAME["cut off, coordinator paused"],
    "region barrier": BY_NAME["one worker paused"],
    "evict": BY_NAME["no failure"],
    "epoch": LOSSY,
    "fill tokens": LOSSY,
    "wait for regions": BY_NAME["cut off, coordinator paused"],
    "row for each Redis": BY_NAME["two Redis in a region at once"],
    "list after commit": BY_NAME["cut off, coordinator paused"],
}
"""The scenario whose histories show that a rule is needed."""


def history(scenario: Scenario, seed: int, without: str | None = None) -> History:
    return run(scenario, workers=WORKERS, interval=INTERVAL, seed=seed, without=without)


@pytest.mark.parametrize("scenario", [*SCENARIOS, replace(LOSSY, name="many losses")], ids=lambda one: one.name)
def test_no_key_is_accepted_after_its_receipt(scenario: Scenario) -> None:
    seen = history(scenario, seed=1)
    assert seen.violations == []
    assert len(seen.receipts) > 10
    assert seen.checks > 100


@pytest.mark.parametrize("rule", RULES)
def test_a_protocol_without_one_of_its_rules_is_caught(rule: str) -> None:
    assert any(history(FOUND_IN[rule], seed, without=rule).violations for seed in SEEDS)


def test_the_histories_that_catch_a_missing_rule_have_no_violation_with_all_rules() -> None:
    scenarios = {scenario.name: scenario for scenario in FOUND_IN.values()}
    assert not any(history(scenario, seed).violations for scenario in scenarios.values() for seed in SEEDS[:4])


def test_a_seed_determines_the_history() -> None:
    scenario = BY_NAME["one region cut off, and back"]
    assert history(scenario, seed=3) == history(scenario, seed=3)
    assert history(scenario, seed=3) != history(scenario, seed=4)


def test_a_receipt_takes_about_the_longest_round_trip() -> None:
    times = sorted(receipt.seconds for receipt in history(BY_NAME["no failure"], seed=2).receipts)
    assert 0.16 < times[len(times) // 2] < 0.30  # simulated seconds


def test_a_receipt_waits_for_the_lease_of_a_region_that_is_cut_off_only_once() -> None:
    scenario = BY_NAME["one region cut off, and back"]
    repaired_at = WARM_SECONDS + scenario.failure_at + scenario.lasts
    seen = history(scenario, seed=1)
    slow = [receipt for receipt in seen.receipts if receipt.expired_regions]
    assert [receipt.expired_regions for receipt in slow] == [1] * len(slow)
    assert all(receipt.seconds > 10 for receipt in slow)
    removed_at = min(receipt.at for receipt in slow)
    later = [one for one in seen.receipts if removed_at + 1 < one.at - one.seconds < repaired_at]
    assert later
    assert all(receipt.seconds < 1 for receipt in later)


@pytest.mark.parametrize(("violations", "status"), [((), 0), (("a violation",), 1)])
def test_the_command_exits_with_1_if_there_is_a_violation(
    violations: Sequence[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(history(BY_NAME["no failure"], seed=1), violations=violations)
    monkeypatch.setattr(command, "simulate", lambda *_: [found])
    monkeypatch.setattr("sys.argv", ["bench.regions", "--only", "simulation"])
    assert command.main() == status


@pytest.fixture
def redis_url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), persistent=False) as server:
        yield server.url


def test_the_cost_of_a_region_is_measured_with_the_products_scripts(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "RENEWALS", 30)
    monkeypatch.setattr(capacity, "PUBLICATIONS", 6)
    cost = capacity.measure(redis_url, 3)
    assert cost.workers == 3
    assert cost.publication_cpu_seconds > 0
    assert cost.receipts.max > 0
