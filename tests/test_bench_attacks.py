"""The parts of `bench/attacks` that need no server: schedules, payloads and verdict."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from bench.attacks import payloads
from bench.attacks.catalog import ATTACKS
from bench.attacks.schedule import RateLimiter, open_loop
from bench.attacks.verdict import Ceilings, Cost, LeftBehind, Observations, Row, failures, header, line

MIB = 1024 * 1024
STRICT = Ceilings(
    probe_p50=3.0,
    limited=True,
    lookups_per_request=0.5,
    held_mb_per_address=10.0,
    log_lines_per_request=1.1,
    log_bytes_per_request=1024.0,
)


def observations(
    milliseconds: float = 1.0, late_accepts: int = 0, wrong: str | None = None, probes_failed: int = 0
) -> Observations:
    return Observations(
        known_ms=[milliseconds] * 3,
        miss_ms=[milliseconds],
        probe_ms=[milliseconds],
        receipt_ms=[milliseconds],
        wrong=Counter() if wrong is None else Counter({wrong: 1}),
        probes_failed=probes_failed,
        checks=4,
        late_accepts=late_accepts,
    )


def row(attacked: Observations | None = None, quiet: Observations | None = None, **cost: object) -> Row:
    given: dict[str, object] = {"responses": Counter({"400": 9, "429": 1}), "seconds": 10.0, **cost}
    return Row("bodies", STRICT, quiet or observations(), attacked or observations(2.0), Cost(**given))  # type: ignore[arg-type]


def test_open_loop_sends_at_a_fixed_rate() -> None:
    times = [*open_loop(100.0, seconds=2.0, per_second=50.0, seed=1)]
    assert len(times) == 100
    assert times == sorted(times)
    assert times[0] >= 100.0
    assert times[-1] < 102.0
    assert all(number * 0.02 <= due - 100.0 < (number + 1) * 0.02 for number, due in enumerate(times))


def test_rate_limiter_does_not_burst_after_a_pause() -> None:
    pace = RateLimiter(10.0)
    assert [pace.due(5.0) for _ in range(3)] == pytest.approx([5.0, 5.1, 5.2])
    assert [pace.due(60.0) for _ in range(2)] == pytest.approx([60.0, 60.1])


@pytest.mark.parametrize("shape", ["unknown_names", "repeated_names", "nested", "long_string"])
@pytest.mark.parametrize("size", [8 * 1024, MIB])
def test_payloads_are_json_of_the_requested_size(shape: str, size: int) -> None:
    body = getattr(payloads, shape)(size)
    assert size - 2 * payloads.NESTING - 2 <= len(body) <= size
    assert isinstance(json.loads(body), dict)


def test_payload_contains_as_many_unknown_names_as_fit() -> None:
    assert len(json.loads(payloads.unknown_names(MIB))) > 111_000


def test_half_body_declares_more_bytes_than_it_sends() -> None:
    head, _, body = payloads.half_body("sk_live_x").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body) + 500}".encode() in head
    assert b"Authorization: Bearer sk_live_x" in head


def test_row_within_its_ceilings_has_no_failures() -> None:
    assert failures(row()) == []


@pytest.mark.parametrize(
    ("seen_row", "reason"),
    [
        (row(observations(3.0)), "p50 of the valid key is 3.0 x"),
        (row(Observations(checks=4)), "p50 of the valid key is not measured"),
        (row(replace(observations(2.0), probe_ms=[3.5])), "p50 of /healthz is 3.5 x"),
        (row(observations(2.0, probes_failed=1)), "1 of 1 probes of /healthz timed out"),
        (row(observations(2.0, wrong="valid key 503")), "valid clients were not served: valid key 503:1"),
        (row(quiet=observations(wrong="cache miss 429")), "not served without the attack: cache miss 429:1"),
        (row(observations(2.0, late_accepts=1)), "1 of 8 requests were accepted after the receipt"),
        (row(quiet=replace(observations(), checks=0)), "requests were accepted after the receipt"),
        (row(replace(observations(2.0), miss_ms=[4.0])), "p50 of cache misses is 4.0 x"),
        (row(replace(observations(2.0), receipt_ms=[5.0])), "p50 of receipts is 5.0 x"),
        (row(responses=Counter({"401": 2})), "no response to the attacker was 429: 401:2"),
        (row(responses=Counter({"500": 2})), "2 responses to the attacker were 500"),
        (row(lookups={"acme": 6.0}), "lookups per request: 0.60"),
        (row(log_lines=12), "log lines per request: 1.20"),
        (row(log_bytes=20_000), "log bytes per request: 2000.00"),
        (row(left_behind=[LeftBehind("session", 100, 120_000, 7_200.0)]), "MB of Redis memory per address: 12.00"),
    ],
)
def test_each_exceeded_ceiling_is_named(seen_row: Row, reason: str) -> None:
    assert [problem for problem in failures(seen_row) if reason in problem]


def test_memory_per_address_is_extrapolated_from_one_minute() -> None:
    left = [LeftBehind("session", 100, 100_000, 7_200.0)]
    assert Cost(seconds=10.0, left_behind=left).held_mb_per_address == pytest.approx(10.0)  # 10,000 sessions
    assert Cost(seconds=120.0, left_behind=left).held_mb_per_address == pytest.approx(6.0)


def test_every_row_has_a_cell_for_every_column() -> None:
    bare = Row("bodies", Ceilings(), Observations(), Observations(), Cost())
    assert {text.count("|") for text in (*header(), line(row()), line(bare))} == {header()[0].count("|")}


def test_attack_names_are_unique() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
