"""The parts of `bench/strangers` that need no server: its schedules, what it sends, and its verdict."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from bench.strangers import hostile
from bench.strangers.attacks import ATTACKS
from bench.strangers.pace import Pace, open_loop
from bench.strangers.verdict import Cost, Floors, LeftBehind, Row, Seen, failures, header, line

MIB = 1024 * 1024
STRICT = Floors(
    probe_p50=3.0,
    limited=True,
    lookups_per_request=0.5,
    held_mb_per_address=10.0,
    log_lines_per_request=1.1,
    log_bytes_per_request=1024.0,
)


def seen(milliseconds: float = 1.0, late_accepts: int = 0, wrong: str | None = None, probes_failed: int = 0) -> Seen:
    return Seen(
        good_ms=[milliseconds] * 3,
        miss_ms=[milliseconds],
        probe_ms=[milliseconds],
        receipt_ms=[milliseconds],
        wrong=Counter() if wrong is None else Counter({wrong: 1}),
        probes_failed=probes_failed,
        checks=4,
        late_accepts=late_accepts,
    )


def row(attacked: Seen | None = None, quiet: Seen | None = None, **cost: object) -> Row:
    given: dict[str, object] = {"answers": Counter({"400": 9, "429": 1}), "seconds": 10.0, **cost}
    return Row("bodies", STRICT, quiet or seen(), attacked or seen(2.0), Cost(**given))  # type: ignore[arg-type]


def test_open_loop_keeps_its_rate_whatever_becomes_of_the_requests() -> None:
    times = [*open_loop(100.0, seconds=2.0, per_second=50.0, seed=1)]
    assert len(times) == 100
    assert times == sorted(times)
    assert times[0] >= 100.0
    assert times[-1] < 102.0
    assert all(number * 0.02 <= due - 100.0 < (number + 1) * 0.02 for number, due in enumerate(times))


def test_pace_makes_up_for_nothing_after_a_pause() -> None:
    pace = Pace(10.0)
    assert [pace.due(5.0) for _ in range(3)] == pytest.approx([5.0, 5.1, 5.2])
    assert [pace.due(60.0) for _ in range(2)] == pytest.approx([60.0, 60.1])


@pytest.mark.parametrize("shape", ["unknown_names", "repeated_names", "nested", "long_string"])
@pytest.mark.parametrize("size", [8 * 1024, MIB])
def test_hostile_bodies_are_json_and_just_fit(shape: str, size: int) -> None:
    body = getattr(hostile, shape)(size)
    assert size - 2 * hostile.NESTING - 2 <= len(body) <= size
    assert isinstance(json.loads(body), dict)


def test_a_body_has_as_many_unknown_names_as_fit() -> None:
    assert len(json.loads(hostile.unknown_names(MIB))) > 111_000


def test_a_half_body_promises_more_than_it_sends() -> None:
    head, _, body = hostile.half_body("sk_live_x").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body) + 500}".encode() in head
    assert b"Authorization: Bearer sk_live_x" in head


def test_a_product_within_its_floors_keeps_them() -> None:
    assert failures(row()) == []


@pytest.mark.parametrize(
    ("seen_row", "reason"),
    [
        (row(seen(3.0)), "the good key's p50 is 3.0 x"),
        (row(Seen(checks=4)), "the good key's p50 is not measured"),
        (row(replace(seen(2.0), probe_ms=[3.5])), "p50 of /healthz is 3.5 x"),
        (row(seen(2.0, probes_failed=1)), "/healthz was not answered in time 1 times of 1"),
        (row(seen(2.0, wrong="good 503")), "good clients were not served: good 503:1"),
        (row(quiet=seen(wrong="miss 429")), "not served between the attacks: miss 429:1"),
        (row(seen(2.0, late_accepts=1)), "1 requests were let in after the receipt, of 8"),
        (row(quiet=replace(seen(), checks=0)), "0 requests were let in after the receipt"),
        (row(replace(seen(2.0), miss_ms=[4.0])), "p50 of misses is 4.0 x"),
        (row(replace(seen(2.0), receipt_ms=[5.0])), "p50 of receipts is 5.0 x"),
        (row(answers=Counter({"401": 2})), "never limited: 401:2"),
        (row(answers=Counter({"500": 2})), "answered 500 2 times"),
        (row(lookups={"acme": 6.0}), "look-ups per request: 0.60"),
        (row(log_lines=12), "lines in the log per request: 1.20"),
        (row(log_bytes=20_000), "bytes in the log per request: 2000.00"),
        (row(left_behind=[LeftBehind("session", 100, 120_000, 7_200.0)]), "can hold: 12.00"),
    ],
)
def test_each_floor_that_is_not_kept_is_named(seen_row: Row, reason: str) -> None:
    assert [problem for problem in failures(seen_row) if reason in problem]


def test_what_one_address_can_hold_is_counted_for_a_minute_of_asking() -> None:
    left = [LeftBehind("session", 100, 100_000, 7_200.0)]
    assert Cost(seconds=10.0, left_behind=left).held_mb_per_address == pytest.approx(10.0)  # 10,000 visits of a key
    assert Cost(seconds=120.0, left_behind=left).held_mb_per_address == pytest.approx(6.0)


def test_every_row_has_a_cell_for_every_column() -> None:
    bare = Row("bodies", Floors(), Seen(), Seen(), Cost())
    assert {text.count("|") for text in (*header(), line(row()), line(bare))} == {header()[0].count("|")}


def test_attacks_have_names_of_their_own() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
