"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.peers.measuring import Series

HEADER = (
    "| system | requests per CPU second, median (minimum) | ratio | CPU time per request | when idle | latency p50 |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def table(results: Mapping[str, Series], base: str) -> str:
    """A row for each result, the fastest first, with its ratio to the result named `base`, if that was measured."""
    lines = [HEADER]
    for name, series in sorted(results.items(), key=lambda each: -each[1].median_rate):
        ratio = f"{series.ratio_to(results[base]):.2f}" if base in results else "-"
        lines.append(
            f"| {name} | {series.median_rate:,.0f} ({series.min_rate:,.0f}) | {ratio} "
            f"| {series.cpu_microseconds:,.0f} µs | {series.idle:.1%} | {series.p50_milliseconds:.1f} ms |"
        )
    return "\n".join(lines)


def omissions(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| system | what it leaves out |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])
