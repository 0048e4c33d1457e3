"""The table, on the terminal and in `docs/topologies.md`, which is generated from `results.json`."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from topologies.network import CONNECTION_RELAY, NETEM, PACKET_RELAY
from topologies.packages import MissingPrograms, program
from topologies.rows import ROWS
from topologies.run_row import Outcome

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("topologies") / "results.json"
PAGE = Path("docs") / "topologies.md"
TEMPLATE = Path(__file__).with_name("page.md.in")


_VERSIONS = {
    "Redis": ("redis-server", "--version"),
    "HAProxy": ("haproxy", "-v"),
    "PostgreSQL": ("postgres", "--version"),
    "Patroni": ("patroni", "--version"),
    "etcd": ("etcd", "--version"),
    "PgBouncer": ("pgbouncer", "--version"),
}
_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def machine() -> dict[str, Any]:
    """The machine of a run, for the record."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "python": platform.python_version(), "engines": _versions()}


def _versions() -> dict[str, str]:
    found = {}
    for name, (command, option) in _VERSIONS.items():
        with suppress(MissingPrograms, OSError):
            printed = subprocess.run([program(command), option], capture_output=True, text=True).stdout
            if number := _NUMBER.search(printed):
                found[name] = number[0]
    return found


COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("late accepts", lambda row: str(row["late_accepts"])),
    ("5xx other than 503", lambda row: str(row["other_5xx"])),
    ("degraded seconds", lambda row: str(row["degraded_seconds"])),
    ("over-admission", lambda row: f"{row['over_admission']:.2f}"),
    ("lost sessions", lambda row: f"{row['lost_sessions']} of {row['sessions']}"),
    ("resurrected keys", lambda row: f"{row['resurrected_keys']} of {row['revocations']}"),
    ("restarts", lambda row: str(row["restarts"])),
)


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each row."""
    width = max((len(one.name) for one in outcomes), default=0)
    heads = [head for head, _ in COLUMNS]
    print("\n" + "  ".join(["row".ljust(width), *heads]))
    for outcome in outcomes:
        cells = [cell(outcome.as_json()).rjust(len(head)) for head, cell in COLUMNS]
        print("  ".join([outcome.name.ljust(width), *cells]))


def write_results(path: Path, outcome: Outcome, seconds: float) -> None:
    """Put the figures of a row into a file of results, in place of the row's earlier ones."""
    earlier = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = {row["name"]: row for row in earlier} | {outcome.name: outcome.as_json()}
    results = {
        "machine": machine(),
        "seconds": seconds,
        "rows": [rows[row.name] for row in ROWS if row.name in rows],
    }
    path.write_text(json.dumps(results, indent=1) + "\n")


def write_page() -> None:
    """Generate the page from the checked-in results."""
    (ROOT / PAGE).write_text(page_of(json.loads((ROOT / RESULTS).read_text())))


def page_of(results: Mapping[str, Any]) -> str:
    """The page for the results of a run."""
    machine = results["machine"]
    heads = ["topology", "failure", *(head for head, _ in COLUMNS)]
    lines = [_row(heads), _row(["---"] * len(heads))]
    lines += [_row([row["topology"], row["failure"], *(cell(row) for _, cell in COLUMNS)]) for row in results["rows"]]
    details_heads = [
        "row",
        "revocations",
        "by fallback notice",
        "slowest receipt",
        "limits enforced locally",
        "requests after a receipt",
        "lost writes",
    ]
    details = [_row(details_heads), _row(["---"] * len(details_heads))]
    details += [_row(_details(row)) for row in results["rows"]]
    engines = "\n".join(f"- {name}: {version}" for name, version in machine["engines"].items())
    return TEMPLATE.read_text().format(
        table="\n".join(lines),
        details="\n".join(details),
        two_hosts=_two_hosts(results["rows"]),
        engines=engines,
        cores=machine["cores"],
        python=machine["python"],
        seconds=f"{results['seconds']:g}",
    )


def _details(row: Mapping[str, Any]) -> list[str]:
    fallback = sum(number for channel, number in row["receipts_by_channel"].items() if channel != "redis")
    return [
        f"`{row['name']}`",
        str(row["revocations"]),
        str(fallback),
        f"{row['slowest_receipt_seconds']:.1f} s",
        f"{row['local_limit_fallbacks']} times",
        f"{row['traffic']['after_receipt']:,}",
        f"{row['lost_agents']} of {row['agents']}",
    ]


LINKS = {
    NETEM: "network namespaces, `tc netem`",
    PACKET_RELAY: "network namespaces, packets delayed by a relay in user space",
    CONNECTION_RELAY: "one network namespace, connections delayed by a relay in user space",
}


def _two_hosts(rows: Sequence[Mapping[str, Any]]) -> str:
    measured = [(row, row["two_hosts"]) for row in rows if row.get("two_hosts")]
    if not measured:
        return "These rows were not measured."
    heads = ["row", "link", "round trip, measured", "late accepts", "receipts that count all workers"]
    heads += ["receipt through host A, p50 / p99", "receipt through host B, p50 / p99", "admitted, of a limit"]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for row, one in measured:
        cells = [f"`{row['name']}`", LINKS[one["link"]], f"{one['measured_round_trip_ms']:.1f} ms"]
        cells += [str(one["late_accepts"] + row["late_accepts"])]
        cells += [f"{one['receipts_with_all_workers']} of {one['receipts']}"]
        cells += [f"{one[host]['p50_ms']:.0f} / {one[host]['p99_ms']:.0f} ms" for host in ("receipts_a", "receipts_b")]
        cells += [f"{one['admitted']} of {one['limit']}, {one['limit_requests']} sent"]
        lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
