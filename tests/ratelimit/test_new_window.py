"""A new rate-limit window is declared in few files; everything that lists the limits follows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
MAX_FILES = 5
"""How many files a new window may change by hand."""
GENERATED = {
    "docs/commands.md": "generated from the commands",
    "kataven/client/models.py": "generated from the OpenAPI document",
}
LISTS_EVERY_WINDOW = {
    "kataven/ratelimit/policy.py": "declares the limits",
    "kataven/system/models.py": "declares their columns",
    "alembic/system/system_0001_accounts.py": "creates the columns; a new window needs a new revision",
    "docs/limits.md": "documents the limits and their headers",
    "README.md": "shows the response of `/v1/me`",
}
"""The other files that may list the windows, with the reason. All others iterate over `LIMIT_FIELDS`."""
SOURCES = ("kataven", "alembic", "bench", "tools", "deploy", "docs", "tests/support")
SUFFIXES = {".py", ".html", ".js", ".lua", ".md", ".json", ".yaml", ".yml", ".toml", ".proto", ".sh"}
WINDOW_NAMES = tuple(re.compile(f"per[_ -]{unit}", re.IGNORECASE) for unit in ("minute", "hour", "day"))
"""Written out, not taken from the policy: after a window is added, a file that lists only these three is incomplete."""

WITH_A_WEEK = """
import importlib.util, json, sys

spec = importlib.util.find_spec("kataven.ratelimit.policy")
source = spec.loader.get_source(spec.name)
for before, line in (
    ('LimitField("concurrent"', 'LimitField("per_week", "Requests per week", 7 * DAY),'),
    ("concurrent: int =", "per_week: int = 50_000"),
    ("concurrent: int | None =", "per_week: int | None = None"),
):
    assert source.count(before) == 1, before
    source = source.replace(before, f"{line}\\n    {before}")
policy = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = policy
exec(compile(source, spec.origin, "exec"), policy.__dict__)

from sqlalchemy.orm import mapped_column
from sqlalchemy import Integer
from kataven.system.models import AccountRateLimits
AccountRateLimits.per_week = mapped_column(Integer)

from flask import Flask, render_template
from prometheus_client import generate_latest
from app import API_BLUEPRINTS
from kataven.commands import account_import, accounts
from kataven.hub import formatting
from kataven.hub.console import account
from kataven.operations import account_file, revocation_measurement
from kataven.system import limits
from kataven.system.directory import record_query
from kataven.web import metrics, reference

api = Flask("reference", static_folder=None)
for blueprint in API_BLUEPRINTS:
    api.register_blueprint(blueprint)
reference.install(api, API_BLUEPRINTS, "https://api.example.com")
schemas = reference.document_of(api)["components"]["schemas"]
option_of = lambda command: next(one.help for one in command.params if "--per-week" in one.opts)
pages = Flask("pages", static_folder=None)
formatting.install(pages)
print(json.dumps({
    "response of /v1/me": list(schemas["Limits"]["properties"]),
    "API key": list(schemas["KeyLimits"]["properties"]),
    "accounts limits": option_of(accounts.change_limits),
    "accounts key-limits": option_of(accounts.key_limits),
    "CSV columns": account_file.COLUMNS,
    "help of import-csv": account_import.import_csv.help,
    "rows": limits.COLUMNS,
    "query": str(record_query()),
    "form": list(account.LimitsForm.model_fields),
    "conflict page": list(account.LIMITS_LABELS),
    "templates": [one.label for one in pages.jinja_env.globals["limit_fields"]],
    "key list": formatting.describe_limits({"per_day": 9_000, "per_week": 50_000}),
    "canary": list(revocation_measurement.CANARY_LIMITS),
    "metrics": generate_latest(metrics.Metrics().registry).decode(),
}))
"""
"""Prints what each place lists if the policy has a fourth window."""


@pytest.fixture(scope="module")
def listed() -> dict[str, Any]:
    """What each place lists, with a window `per_week` in the policy."""
    ran = subprocess.run(
        [sys.executable, "-c", WITH_A_WEEK], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=110
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_new_window_appears_wherever_limits_are_listed(listed: dict[str, Any]) -> None:
    fields = ["per_minute", "per_hour", "per_day", "per_week", "concurrent"]
    for place in ("response of /v1/me", "API key", "rows", "form", "conflict page", "canary"):
        assert listed[place] == fields, place
    assert listed["CSV columns"][-5:] == fields
    for place in ("help of import-csv", "query"):
        assert "per_week" in listed[place], place
    assert listed["templates"][-2:] == ["Requests per week", "Concurrent requests"]
    assert listed["key list"] == "9,000 per day, 50,000 per week"
    for series in ("per-week", "key-per-week"):
        assert f'kataven_limited_total{{limit="{series}"}} 0.0' in listed["metrics"]


def test_new_window_is_an_option_of_both_commands(listed: dict[str, Any]) -> None:
    for command in ("accounts limits", "accounts key-limits"):
        assert listed[command] == "Maximum requests in any 7 days; at least --per-day."


def test_only_the_allowed_files_list_every_window() -> None:
    found = {str(path.relative_to(CHECKOUT)) for path in _files() if _lists_every_window(path)}
    unexpected = sorted(found - LISTS_EVERY_WINDOW.keys() - GENERATED.keys())
    assert not unexpected, f"iterate over LIMIT_FIELDS instead of listing the windows: {', '.join(unexpected)}"
    assert found == LISTS_EVERY_WINDOW.keys() | GENERATED.keys()
    assert len(LISTS_EVERY_WINDOW) <= MAX_FILES


def test_listing_the_windows_is_detected_in_each_spelling(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for names in ("per_minute per_hour per_day", "per-minute\nper-hour\nper-day", "Per minute, per hour, per day"):
        page.write_text(names)
        assert _lists_every_window(page)
    page.write_text("per_minute per_hour")
    assert not _lists_every_window(page)


def _files() -> Iterator[Path]:
    yield from CHECKOUT.glob("*.md")
    yield from CHECKOUT.glob("*.py")
    for folder in SOURCES:
        for path in (CHECKOUT / folder).rglob("*"):
            # `make lint-openapi` writes openapi.json, which is not checked in.
            if path.suffix in SUFFIXES and "node_modules" not in path.parts and path.name != "openapi.json":
                yield path


def _lists_every_window(path: Path) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return all(name.search(text) for name in WINDOW_NAMES)
