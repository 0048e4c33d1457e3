"""The table of log fields in docs/operations.md lists exactly the fields of real lines, in each convention."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path

import pytest

from kataven import logs
from tests.support.app_harness import AppHarness

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "operations.md").read_text()
SECTION = PAGE.partition("### Field names in other conventions\n")[2].partition("\n###")[0]
ROWS = re.findall(r"^\| `(\w+)` \| ([^|]*) \| `([\w.@]+)`[^|]*\| `([\w.]+)`[^|]*\|$", SECTION, re.MULTILINE)
MINE = "tests.test_log_fields"


def test_every_field_of_a_line_is_in_the_table_and_every_row_is_a_field(
    harness: AppHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = harness.bearer(harness.new_key("acme")).get("/v1/me")
    rejected = harness.caller().get("/v1/me")
    try:
        raise ValueError("for the traceback")
    except ValueError:
        record = logging.LogRecord(MINE, logging.ERROR, __file__, 1, "a run failed", None, None)
        record.exc_info = sys.exc_info()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    ids = {accepted.headers["X-Request-ID"], rejected.headers["X-Request-ID"]}
    ours = [line for line in lines if line.get("request_id") in ids and line["message"] == "request"]
    assert len(ours) == 2
    ours.append(json.loads(logs.formatter().format(record)))
    written = {name for line in ours for name, value in line.items() if value is not None}
    assert written == {field for field, *_ in ROWS}


def test_names_in_each_convention_are_unique() -> None:
    assert len(ROWS) == len(re.findall(r"^\| `", SECTION, re.MULTILINE)), "every row has all columns"
    for column in (2, 3):
        names = [row[column] for row in ROWS]
        assert len(set(names)) == len(names)


def test_attributes_of_spans_have_the_names_in_the_opentelemetry_column() -> None:
    table = PAGE.partition("### Traces\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`((?:http|kataven|error)\.[\w.]+)`", table))
    sources = "".join(
        (Path(__file__).resolve().parents[1] / "kataven" / name).read_text()
        for name in ("telemetry/instruments.py", "telemetry/spans.py", "web/observe.py")
    )
    used = set(re.findall(r'"((?:http|kataven|error|db|rpc)\.[a-z_.]+)"', sources))
    assert documented <= used
    assert {name for name in used if name.startswith(("db.", "rpc."))} <= set(re.findall(r"`([\w.]+)`", table))
