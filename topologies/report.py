"""The table, on the terminal and in `docs/topologies.md`, which is generated from `results.json`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from topologies.run_row import Outcome, Row

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("topologies") / "results.json"
PAGE = Path("docs") / "topologies.md"


def machine() -> dict[str, Any]:
    """The machine of a run, for the record."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "system": platform.system(), "python": platform.python_version()}


COLUMNS = (
    ("late accepts", lambda row: str(row["late_accepts"])),
    ("5xx other than 503", lambda row: str(row["other_5xx"])),
    ("degraded seconds", lambda row: str(row["degraded_seconds"])),
    ("over-admission", lambda row: f"{row['over_admission']:.2f}"),
    ("lost sessions", lambda row: f"{row['lost_sessions']} of {row['sessions']}"),
    ("resurrected keys", lambda row: f"{row['resurrected_keys']} of {row['revocations']}"),
    ("restarts", lambda row: str(row["restarts"])),
)


def print_table(outcomes: Sequence[Outcome], disabled: Sequence[Row]) -> None:
    """Print a line for each row."""
    width = max((len(row.name) for row in (*outcomes, *disabled)), default=0)
    heads = [head for head, _ in COLUMNS]
    print("\n" + "  ".join(["row".ljust(width), *heads]))
    for outcome in outcomes:
        cells = [cell(outcome.as_json()).rjust(len(head)) for head, cell in COLUMNS]
        print("  ".join([outcome.name.ljust(width), *cells]))
    for row in disabled:
        print(f"{row.name.ljust(width)}  disabled: {row.disabled}")


def write_page() -> None:
    """Generate the page from the checked-in results."""
    (ROOT / PAGE).write_text(page_of(json.loads((ROOT / RESULTS).read_text())))


def page_of(results: Mapping[str, Any]) -> str:
    return ""
