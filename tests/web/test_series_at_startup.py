"""Rejections are counted, each in a series that exists before the first one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kataven.identity import token as tokens
from kataven.identity.errors import Refused
from kataven.identity.token import TokenKind
from kataven.ratelimit.budget import PER_MINUTE, AddressBudgetKind
from kataven.web.lookups import OUTCOMES
from kataven.web.metrics import Metrics
from kataven.web.problems import PROBLEM_TYPES
from tests.support.app_harness import AppHarness

CROWDED = "203.0.113.250"


def series(harness: AppHarness, name: str, label: str) -> dict[str, float]:
    text = harness.caller().get("/metrics").get_data(as_text=True)
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"kataven_{name}_total":
                found[sample.labels[label]] = found.get(sample.labels[label], 0.0) + sample.value
    return found


def test_every_problem_limit_and_lookup_has_a_series_at_startup(harness: AppHarness) -> None:
    assert set(PROBLEM_TYPES) <= set(series(harness, "problems", "code"))
    assert set(OUTCOMES) == set(series(harness, "credential_lookups", "outcome"))
    limits = set(series(harness, "limited", "limit"))
    assert {"per-minute", "key-concurrent", *AddressBudgetKind, "hub-of-network"} <= limits


def test_every_verifier_error_has_a_series_at_startup() -> None:
    labels = {
        sample.labels["outcome"]
        for family in Metrics().registry.collect()
        for sample in family.samples
        if sample.name == "kataven_verifications_total"
    }
    # The other codes are errors of the token's shape, before a credential is verified.
    by_shape = {"missing_credential", "not_a_credential", "missing_account", "invalid_account", "reserved_account"}
    assert {refusal.code for refusal in Refused.__subclasses__()} - by_shape <= labels


WITHOUT = {
    "kataven_requests": "one for each route, method and status would be thousands; what goes wrong is in `problems`",
    "kataven_request_seconds": "as `requests`",
    "kataven_problems": "made by the application, which has the table: see the first test",
    "kataven_sign_ins": "made by the Hub's pages: see tests/hub",
    "kataven_auth_service_seconds": "made where an auth-service is configured: see below",
}
"""Labelled metrics that have no series in any process before something happens, and why."""


def test_every_labelled_metric_has_its_series_at_0_or_is_an_exception() -> None:
    made = {family.name for family in Metrics().registry.collect() if family.samples}
    assert {family.name for family in Metrics().registry.collect()} - made == set(WITHOUT)


def test_every_documented_label_value_has_a_series() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    for family in Metrics().registry.collect():
        if family.name in WITHOUT | {"kataven_limited": ""}:
            continue
        row = re.search(rf"^\| `{family.name}` .*$", page, re.MULTILINE)
        assert row is not None
        listed = row[0].split(" | ")[3]
        values = {value for sample in family.samples for name, value in sample.labels.items() if name != "le"}
        assert values >= set(re.findall(r"`([a-z_]+)`", listed)) - {name for s in family.samples for name in s.labels}


def test_calls_to_a_configured_auth_service_have_series_at_startup() -> None:
    metrics = Metrics()
    metrics.create_auth_call_series(["Verify"])
    text = metrics.exposition().decode()
    for outcome in ("answered", "deadline_exceeded", "unavailable"):
        assert f'kataven_auth_service_seconds_count{{method="Verify",outcome="{outcome}"}} 0.0' in text


def test_canary_outcomes_have_series_before_the_first_round() -> None:
    text = Metrics().exposition().decode()
    for outcome in ("kept", "broken", "failed"):
        assert f'kataven_canary_rounds_total{{outcome="{outcome}"}} 0.0' in text


@pytest.mark.parametrize("kind", [AddressBudgetKind.FAILED, AddressBudgetKind.REFUSED])
def test_requests_rejected_by_an_exhausted_budget_are_counted(harness: AppHarness, kind: AddressBudgetKind) -> None:
    addresses = harness.services.limiter.addresses
    for _ in range(PER_MINUTE[kind]):
        addresses.spend(CROWDED, kind)
    before = series(harness, "limited", "limit")[kind], series(harness, "credential_lookups", "outcome")["refused"]
    there = {"environ_base": {"REMOTE_ADDR": CROWDED}}
    for _ in range(20):
        if kind is AddressBudgetKind.FAILED:
            guess = harness.bearer(tokens.generate(TokenKind.API_KEY, "acme").text)
            last = guess.get("/v1/me", **there)
        else:
            last = harness.caller().post("/v1/widget/auth/guest", {}, **there)
    assert last.status_code == 429
    after = series(harness, "limited", "limit")[kind], series(harness, "credential_lookups", "outcome")["refused"]
    assert after[0] > before[0]
    assert (after[1] > before[1]) is (kind is AddressBudgetKind.FAILED)


def test_every_lookup_outcome_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    row = re.search(r"^\| `kataven_credential_lookups`.*$", page, re.MULTILINE)
    assert row is not None
    assert all(f"`{outcome}`" in row[0] for outcome in OUTCOMES)
