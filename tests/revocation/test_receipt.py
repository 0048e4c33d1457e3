"""The receipt and the latency log."""

from __future__ import annotations

import pytest

from kataven.revocation import Channel, Percentiles, Receipt, RevocationLatencyLog, RevocationTarget
from kataven.revocation.receipt import WorkerTimes


@pytest.mark.parametrize(
    ("receipt", "written"),
    [
        (Receipt(4, 4, 3.14159, 1.5), {"workers": 4, "acknowledged": 4, "ms": 3.1}),
        (Receipt(4, 3, 1020.04), {"workers": 4, "acknowledged": 3, "ms": 1020.0, "lapsed": 1}),
        (
            Receipt(0, 0, 1020.0, channel=Channel.UNREACHABLE),
            {"workers": 0, "acknowledged": 0, "ms": 1020.0, "redis": "unreachable"},
        ),
    ],
)
def test_receipt_json_contains_optional_members_only_if_they_apply(
    receipt: Receipt, written: dict[str, object]
) -> None:
    assert receipt.as_json() == written


def test_latency_log_passes_each_receipt_to_its_subscribers() -> None:
    canary = RevocationLatencyLog()
    seen: list[Receipt] = []
    canary.subscribe(seen.append)
    canary.record(Receipt(1, 1, 2.0, 1.0))
    assert seen == [Receipt(1, 1, 2.0, 1.0)]


def test_latency_log_summarizes_eviction_and_whole_call_separately() -> None:
    canary = RevocationLatencyLog()
    for number in range(1, 101):
        canary.record(Receipt(1, 1, ms=float(number), publish_to_last_ack_ms=number / 10))
    canary.record(Receipt(1, 0, ms=1020.0))
    summary = canary.summary()
    assert summary.count == 101
    assert summary.publish_to_last_ack == Percentiles(p50=5.0, p99=9.9, max=10.0)
    assert summary.whole_call == Percentiles(p50=51.0, p99=100.0, max=1020.0)


def test_latency_log_without_receipts_has_no_percentiles() -> None:
    summary = RevocationLatencyLog().summary()
    assert (summary.count, summary.publish_to_last_ack, summary.whole_call) == (0, None, None)


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        (RevocationTarget(None), RevocationTarget("acme", "key"), True),
        (RevocationTarget("acme"), RevocationTarget("acme", "key"), True),
        (RevocationTarget("acme", "key"), RevocationTarget("acme", "key"), True),
        (RevocationTarget("acme", "key"), RevocationTarget("acme", "other"), False),
        (RevocationTarget("acme", "key"), RevocationTarget("globex", "key"), False),
        (RevocationTarget("acme", "key"), RevocationTarget("acme"), False),
        (RevocationTarget("acme"), RevocationTarget("globex", "key"), False),
        # A user's tokens: in one account, or in all.
        (RevocationTarget("acme"), RevocationTarget("acme", "sub", "alice"), True),
        (RevocationTarget("acme", subject="alice"), RevocationTarget("acme", "sub", "alice"), True),
        (RevocationTarget(None, subject="alice"), RevocationTarget("acme", "sub", "alice"), True),
        (RevocationTarget("globex", subject="alice"), RevocationTarget("acme", "sub", "alice"), False),
        (RevocationTarget("acme", subject="bob"), RevocationTarget("acme", "sub", "alice"), False),
        (RevocationTarget(None, subject="alice"), RevocationTarget("acme", "key"), False),
        # The latest cutoff of an account, and of all accounts.
        (RevocationTarget("acme", subject="alice"), RevocationTarget("acme", "*", "*"), True),
        (RevocationTarget("acme", "key"), RevocationTarget("acme", "*", "*"), True),
        (RevocationTarget(None, subject="alice"), RevocationTarget("acme", "*", "*"), False),
        (RevocationTarget(None, subject="alice"), RevocationTarget(None, "*", "*"), True),
        (RevocationTarget("acme", subject="alice"), RevocationTarget(None, "*", "*"), False),
        (RevocationTarget("acme"), RevocationTarget(None, "*", "*"), False),
        (RevocationTarget(None), RevocationTarget(None, "*", "*"), True),
    ],
)
def test_target_covers_what_it_includes(wide: RevocationTarget, narrow: RevocationTarget, covers: bool) -> None:
    assert wide.covers(narrow) is covers


def test_a_stored_receipt_has_the_times_of_each_worker() -> None:
    receipt = Receipt(2, 2, 3.0, times=(WorkerTimes("a", 0.1234, 1.0), WorkerTimes("b", 0.5, 2.0)))
    assert receipt.as_detail()["receipt"] == receipt.as_json() == {"workers": 2, "acknowledged": 2, "ms": 3.0}
    assert receipt.as_detail()["times"] == [
        {"worker": "a", "heard_ms": 0.123, "forgotten_ms": 1.0},
        {"worker": "b", "heard_ms": 0.5, "forgotten_ms": 2.0},
    ]
