"""The alert rules: equal to the documentation, on existing series, and fired by their cause only."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kataven.web.metrics import Metrics
from kataven.web.problems import PROBLEM_TYPES
from tests.support.app_harness import AppHarness

pytestmark = pytest.mark.programs

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["groups"][0]["rules"]
FOR = {None: "", "1m": ", for 1 minute", "2m": ", for 2 minutes", "5m": ", for 5 minutes"}

API, CANARY = "kataven-api", "kataven-canary"
NO_EVENT = "0x40"
SIGN_IN_OUTCOMES = ("access_token", "client_refused", "id_token", "opaque_access_token", "other_person")
GUESSES = f'kataven_verifications_total{{job="{API}",credential="api_key",outcome="invalid_credential"}}'

Series = dict[str, str]

SCENARIOS: dict[str, tuple[Series, int, set[str]]] = {
    "nothing is wrong": ({}, 30, set()),
    "the first broken round": (
        {f'kataven_canary_rounds_total{{job="{CANARY}",outcome="broken"}}': "0x19 1x20"},
        21,
        {"KatavenRevokedKeyAccepted"},
    ),
    "a broken round before the first scrape": (
        {f'kataven_canary_rounds_total{{job="{CANARY}",outcome="broken"}}': "_x19 1x20"},
        21,
        {"KatavenRevokedKeyAccepted"},
    ),
    "the canary is gone": (
        {
            f'kataven_canary_rounds_total{{job="{CANARY}",outcome="kept"}}': "0+1x15",
            f'up{{job="{CANARY}"}}': "1x15 0x20",
        },
        30,
        {"KatavenRevocationNotMeasured", "KatavenTargetDown"},
    ),
    "the canary was never there": (
        {f'kataven_canary_rounds_total{{job="{CANARY}",outcome="kept"}}': "_x40", f'up{{job="{CANARY}"}}': "_x40"},
        30,
        {"KatavenRevocationNotMeasured"},
    ),
    "the canary's rounds fail": (
        {
            f'kataven_canary_rounds_total{{job="{CANARY}",outcome="kept"}}': "0+1x15 15x25",
            f'kataven_canary_rounds_total{{job="{CANARY}",outcome="failed"}}': "0x15 0+1x25",
        },
        30,
        {"KatavenRevocationNotMeasured"},
    ),
    "the first revocation without a receipt": (
        {f'kataven_revocations_total{{job="{API}",channel="none"}}': "0x19 1x20"},
        21,
        {"KatavenRevocationWithoutReceipt"},
    ),
    "a failover of a database server": (
        {f'kataven_database_timeline_changes_total{{job="{API}"}}': "0x19 1x20"},
        21,
        {"KatavenDatabaseTimelineChanged"},
    ),
    "two Redis for minutes": (
        {f'kataven_revocations_total{{job="{API}",channel="split"}}': "0x15 0+1x25"},
        30,
        {"KatavenTwoRedis"},
    ),
    "two Redis for a moment": (
        {f'kataven_revocations_total{{job="{API}",channel="split"}}': "0x19 1x20"},
        21,
        set(),
    ),
    "the first burst of another schema": (
        {f'kataven_problems_total{{job="{API}",code="schema_mismatch"}}': "0x19 50x20"},
        21,
        {"KatavenSchemaMismatch", "KatavenServerErrors"},
    ),
    "the first 5xx": (
        {f'kataven_problems_total{{job="{API}",code="internal_error"}}': "0x19 300x20"},
        21,
        {"KatavenServerErrors"},
    ),
    "an API is gone": ({f'up{{job="{API}"}}': "1x15 0x20"}, 30, {"KatavenTargetDown"}),
    "nothing is scraped": (
        {f'up{{job="{API}"}}': "_x40", f'up{{job="{CANARY}"}}': "_x40"},
        30,
        {"KatavenNotScraped"},
    ),
    "a worker that was waited out": (
        {f'kataven_revocation_unacknowledged_workers_total{{job="{API}"}}': "0x19 1x20"},
        21,
        {"KatavenWorkerDidNotAcknowledge"},
    ),
    "workers without a lease": (
        {f'kataven_leases_confirmed{{job="{API}"}}': "1x15 0x20"},
        30,
        {"KatavenCacheNotTrusted"},
    ),
    "keys are guessed": (
        {GUESSES: "0x19 0+6000x20"},
        25,
        {"KatavenKeysGuessed"},
    ),
    "the issuer is gone": (
        {f'kataven_issuer_key_fetches_total{{job="{API}",outcome="failed"}}': "0x15 0+1x25"},
        30,
        {"KatavenIssuerUnreachable"},
    ),
    "the collector of traces is gone": (
        {f'kataven_spans_total{{job="{API}",outcome="dropped"}}': "0x15 0+9x25"},
        30,
        {"KatavenSpansDropped"},
    ),
    "an application that is misconfigured": (
        {f'kataven_sign_ins_total{{job="{API}",outcome="client_refused"}}': "0x19 1x20"},
        21,
        {"KatavenSignInMisconfigured"},
    ),
}


def test_documented_alert_rules_equal_the_file() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.split("### What to alert on\n")[1].split("\n## ")[0]
    listed = [re.split(r"(?<!\\)\|", row)[1:-1] for row in table.splitlines() if row.startswith("| `")]
    assert [[without_links(cell.strip().replace("\\|", "|")) for cell in row] for row in listed] == [
        [
            f"`{rule['alert']}`: `{rule['expr']}`{FOR[rule.get('for')]}",
            rule["annotations"]["summary"],
            rule["annotations"]["action"],
        ]
        for rule in RULES
    ]


def without_links(text: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def test_every_series_of_a_rule_exists_at_startup(harness: AppHarness, fresh: Mapping[str, set[str]]) -> None:
    for rule in RULES:
        for name, _, labels in re.findall(r"(kataven_\w+)(\{([^}]*)\})?", rule["expr"]):
            if name == "kataven_requests_total":
                continue  # only what was asked for: a rate of all of them together
            assert name in fresh, f"{rule['alert']}: no series {name}"
            for label, operator, value in re.findall(r'(\w+)(=~?)"([^"]*)"', labels):
                for wanted in value.split("|") if operator == "=~" else [value]:
                    assert f'{label}="{wanted}"' in " ".join(fresh[name]), f"{rule['alert']}: no {name} of {wanted}"


def test_5xx_rule_lists_every_5xx_code() -> None:
    [rule] = [rule for rule in RULES if rule["alert"] == "KatavenServerErrors"]
    [codes] = re.findall(r'code=~"([^"]*)"', rule["expr"])
    ours = {code for code, kind in PROBLEM_TYPES.items() if kind.status in {500, 503}} - {"gateway_misconfigured"}
    assert codes.split("|") == sorted(ours), "501 is the client's, and wrong parameters at /v1/verify are the gateway's"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_each_rule_fires_on_its_cause_only(harness: AppHarness, fresh: Mapping[str, set[str]], tmp_path: Path) -> None:
    base = quiet(fresh)
    tests = []
    for name, (changes, minute, alerts) in SCENARIOS.items():
        assert set(changes) <= set(base), f"{name}: {set(changes) - set(base)} is no series of ours"
        values = {**base, **changes}
        tests.append(
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": one, "values": text} for one, text in values.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{minute}m",
                        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)],
                    }
                ],
            }
        )
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def fresh(harness: AppHarness) -> Mapping[str, set[str]]:
    """The series of a process that has served no request: those of Metrics and those that an application adds."""
    found: dict[str, set[str]] = {}
    served = harness.caller().get("/metrics").get_data(as_text=True)
    for family in [*Metrics().registry.collect(), *text_string_to_metric_families(served)]:
        for sample in family.samples:
            if sample.name.startswith("kataven_"):
                labels = ",".join(f'{label}="{value}"' for label, value in sorted(sample.labels.items()))
                found.setdefault(sample.name, set()).add(labels)
    for outcome in SIGN_IN_OUTCOMES:
        found.setdefault("kataven_sign_ins_total", set()).add(f'outcome="{outcome}"')  # tests/hub has the Hub's own
    return found


def quiet(fresh: Mapping[str, set[str]]) -> Series:
    """An API with ten requests per minute and a canary, both healthy, for forty minutes."""
    series = {f'up{{job="{job}"}}': "1x40" for job in (API, CANARY)}
    for name, found in fresh.items():
        for labels in found:
            value = "1x40" if name in {"kataven_workers", "kataven_leases_confirmed"} else NO_EVENT
            series[f'{name}{{job="{API}"{"," if labels else ""}{labels}}}'] = value
    for outcome in ("broken", "failed"):
        series[f'kataven_canary_rounds_total{{job="{CANARY}",outcome="{outcome}"}}'] = NO_EVENT
    series[f'kataven_canary_rounds_total{{job="{CANARY}",outcome="kept"}}'] = "0+1x40"
    asked = 'method="GET",route="/v1/me",status="200",surface="api"'
    return {**series, f'kataven_requests_total{{job="{API}",{asked}}}': "0+10x40"}
