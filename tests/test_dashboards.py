"""The Grafana dashboards: valid panels, and expressions over metrics and labels that the product exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kataven.authservice import codec
from kataven.web.metrics import Metrics
from tests.support.app_harness import AppHarness, Caller
from tests.test_alerts import SIGN_IN_OUTCOMES

FILES = sorted((Path(__file__).resolve().parents[1] / "deploy" / "grafana").glob("*.json"))
GRAFANA_VARIABLES = {"__rate_interval", "__range", "__interval"}
TARGET_LABELS = {"job", "instance"}
"""Labels that Prometheus adds when it scrapes."""

Labels = dict[str, set[str]]


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def panels(file: Path) -> list[dict[str, Any]]:
    return [panel for panel in load(file)["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    for file in FILES:
        for panel in panels(file):
            for target in panel["targets"]:
                yield f"{file.name}: {panel['title']}: {target['refId']}", target["expr"]


@pytest.fixture(scope="module")
def scraped(harness: AppHarness) -> dict[str, Labels]:
    """Each sample of a real scrape after one request, with the values of its labels."""
    Caller(harness.app, {"Authorization": f"Bearer {harness.new_key('acme')}"}).get("/v1/me")
    metrics = Metrics()
    metrics.create_auth_call_series((codec.VERIFY,))
    served = harness.caller().get("/metrics").get_data(as_text=True)
    found: dict[str, Labels] = {"kataven_sign_ins_total": {"outcome": set(SIGN_IN_OUTCOMES)}}  # the Hub's
    for family in [*metrics.registry.collect(), *text_string_to_metric_families(served)]:
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_panels_have_unique_ids_places_and_descriptions(file: Path) -> None:
    dashboard = load(file)
    assert isinstance(dashboard["schemaVersion"], int)
    assert re.fullmatch(r"[\w-]{1,40}", dashboard["uid"])
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} overlaps"
        taken |= cells
    for panel in panels(file):
        assert panel["description"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_is_defined(file: Path) -> None:
    defined = {variable["name"] for variable in load(file)["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([load(file)["panels"], load(file)["templating"]])))
    assert used - GRAFANA_VARIABLES - {"__all"} == defined


def test_every_metric_and_label_is_exported(scraped: dict[str, Labels]) -> None:
    assert len(list(expressions())) > 20
    for where, expression in expressions():
        for name, labels in re.findall(r"(kataven_\w+)(?:\{([^}]*)\})?", expression):
            assert name in scraped, f"{where}: no series {name}"
            for label, operator, value in re.findall(r'(\w+)(=~?)"([^"]*)"', labels):
                if label not in TARGET_LABELS:
                    for wanted in value.split("|") if operator == "=~" else [value]:
                        assert wanted in scraped[name].get(label, set()), f"{where}: no {name} with {label}={wanted}"


def test_every_grouping_and_legend_uses_a_label_of_its_metric(scraped: dict[str, Labels]) -> None:
    for file in FILES:
        for panel in panels(file):
            for target in panel["targets"]:
                names = re.findall(r"kataven_\w+", target["expr"])
                grouped = {
                    label for labels in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in labels.split(", ")
                }
                known = {label for name in names for label in scraped[name]}
                assert grouped <= known, f"{panel['title']}: {grouped - known}"
                assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped, panel["title"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_parses_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{n}", "expr": expression.replace("$__rate_interval", "5m")}
        for n, (_, expression) in enumerate(expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
