"""`python -m topologies`: what its rows count, which programs they need, and the page with the results."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.scenarios.environment import Key
from topologies import network, packages
from topologies.columns import count, over_admission, receipts_by_channel
from topologies.load import KeyUnderTest
from topologies.observation import Observation
from topologies.packages import MissingPrograms
from topologies.report import PAGE, RESULTS, page_of
from topologies.rows import ROWS
from topologies.two_hosts import HostReceipts, TwoHosts, unexplained

ROOT = Path(__file__).resolve().parents[1]


def key(*, asked_at: float = 10.0, receipt_at: float = 11.0) -> dict[str, KeyUnderTest]:
    return {"k": KeyUnderTest(Key("k", "text"), asked_at, receipt_at)}


def sent(started: float, status: int, *, ended: float | None = None, kind: str = "key") -> Observation:
    return Observation(kind, "k", started, started + 0.01 if ended is None else ended, status)


@pytest.mark.parametrize(
    ("observation", "late"),
    [
        (sent(11.5, 200), 1),
        (sent(10.9, 200, ended=12.0), 0),  # started before the receipt arrived
        (sent(11.5, 403), 0),
        (sent(11.5, 503), 0),
        (sent(11.5, 200, kind="jwt"), 0),
    ],
    ids=["after", "before", "rejected", "unavailable", "another-credential"],
)
def test_a_late_accept_started_after_the_receipt_and_was_accepted(observation: Observation, late: int) -> None:
    assert count([observation], key(), 0.0).late_accepts == late


def test_a_revoked_key_without_a_receipt_has_no_late_accept() -> None:
    assert count([sent(99.0, 200)], key(receipt_at=math.inf), 0.0).late_accepts == 0


@pytest.mark.parametrize(
    ("observation", "degraded"),
    [
        (sent(5.0, 200), 0),
        (sent(5.0, 403), 1),  # rejected before anything was asked
        (sent(10.5, 200), 0),
        (sent(10.5, 403), 0),
        (sent(10.5, 503), 1),
        (sent(12.0, 401), 0),
        (sent(12.0, 0), 1),
        (sent(5.0, 429, kind="limit"), 0),
        (sent(5.0, 503, kind="limit"), 1),
        (sent(5.0, 303, kind="hub"), 1),
        (sent(5.0, 200, kind="agents"), 1),
    ],
)
def test_a_second_is_degraded_if_a_response_is_unexpected(observation: Observation, degraded: int) -> None:
    assert count([observation], key(), 0.0).degraded_seconds == degraded


def test_unexpected_responses_of_one_second_count_once() -> None:
    observations = [sent(1.1, 503, kind="jwt"), sent(1.5, 0, kind="jwt"), sent(3.5, 503, kind="jwt")]
    assert count(observations, {}, 0.0).degraded_seconds == 2


def test_503_is_not_one_of_the_other_5xx() -> None:
    observations = [sent(1.0, status, kind="jwt") for status in (500, 502, 503, 429)]
    assert count(observations, {}, 0.0).other_5xx == 2


def limited(times: Iterable[float], status: int = 200) -> list[Observation]:
    return [Observation("limit", "a", time, time + 0.001, status) for time in times]


def test_over_admission_counts_the_fullest_window() -> None:
    assert over_admission(limited([0, 1, 2, 59, 70, 80]), limit=4) == 1.0
    assert over_admission(limited([0, 50, 55, 59, 61, 62, 63, 64]), limit=4) == 7 / 4
    assert over_admission(limited([0, 1, 2], 429), limit=4) == 0.0


def test_over_admission_does_not_count_a_request_that_ended_outside_the_window() -> None:
    slow = Observation("limit", "a", 1.0, 61.0, 200)
    assert over_admission([*limited([0.0]), slow], limit=1) == 1.0


def test_receipts_are_counted_by_channel() -> None:
    keys = [
        KeyUnderTest(Key("1", ""), receipt_at=1.0, receipt={"workers": 2}),
        KeyUnderTest(Key("2", ""), receipt_at=1.0, receipt={"workers": 2, "redis": "unreachable"}),
        KeyUnderTest(Key("3", "")),
    ]
    assert receipts_by_channel(keys) == {"redis": 1, "unreachable": 1}


def test_missing_programs_are_reported_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_find", lambda name: None if name in {"etcd", "pgbouncer"} else Path("/bin/true"))
    with pytest.raises(MissingPrograms, match=r"not installed: etcd, pgbouncer; .* etcd-server pgbouncer$"):
        packages.require(["redis-server", "pgbouncer", "etcd"])


def test_every_program_of_a_row_has_a_package() -> None:
    assert {name for row in ROWS for name in row.programs} <= set(packages.PACKAGES)


def test_ci_installs_every_package() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for package in set(packages.PACKAGES.values()):
        assert re.search(rf"\b{package}\b", script), package


def test_the_page_is_generated_from_the_results() -> None:
    assert (ROOT / PAGE).read_text() == page_of(json.loads((ROOT / RESULTS).read_text()))


def test_the_results_contain_every_row() -> None:
    results = json.loads((ROOT / RESULTS).read_text())
    assert [row["name"] for row in results["rows"]] == [row.name for row in ROWS]


def revoked(asked_at: float, workers: int, lapsed: int = 0) -> KeyUnderTest:
    receipt = {"workers": workers} | ({"lapsed": lapsed} if lapsed else {})
    return KeyUnderTest(Key("k", ""), asked_at, asked_at + 0.1, receipt)


def test_a_receipt_without_all_workers_is_unexplained_unless_one_had_just_expired() -> None:
    assert unexplained([revoked(1.0, 4), revoked(2.0, 3)], workers=4) == [revoked(2.0, 3)]
    assert unexplained([revoked(1.0, 4, lapsed=1), revoked(2.0, 3)], workers=4) == []
    assert unexplained([revoked(1.0, 4, lapsed=1), revoked(60.0, 3)], workers=4) == [revoked(60.0, 3)]
    assert unexplained([revoked(1.0, 3), revoked(2.0, 4, lapsed=1)], workers=4) == [revoked(1.0, 3)]


@pytest.mark.parametrize(
    ("change", "passed"),
    [({}, True), ({"admitted": 61}, False), ({"late_accepts": 1}, False), ({"unexplained_receipts": 1}, False)],
)
def test_two_hosts_pass_without_late_accepts_missing_workers_or_excess(change: dict[str, Any], passed: bool) -> None:
    receipts = HostReceipts(40, 9.0, 20.0, 30.0, 40.0)
    seen = TwoHosts("netem", 5, 5.1, receipts, receipts, 0, 100, 100, 0, 60, 60, 180)
    assert replace(seen, **change).passed is passed


def test_a_port_of_another_namespace_is_passed_to_other_processes() -> None:
    assert network.parse("1234@host-b") == 1234
    assert network.namespace_of(1234) == "host-b"
    assert network.spell(1234) == "1234@host-b"
    assert network.spell(1235) == "1235"


@pytest.mark.parametrize("kind", network.LINKS)
def test_a_link_delays_what_host_b_sends_and_is_removed_afterwards(kind: str) -> None:
    command = [sys.executable, "-m", "topologies.network", "--link", kind, "--round-trip", "40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "not supported" in done.stderr:
        pytest.skip(done.stderr)
    found = re.fullmatch(rf"{kind}: (\S+) ms, namespace (\S+)\n", done.stdout)
    assert found, done.stderr
    assert float(found[1]) >= 40
    assert not Path("/run/netns", found[2]).exists()
