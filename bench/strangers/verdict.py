"""What was seen, next to the same without the attack, and whether that is good enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kataven.revocation.latency_log import Percentiles

MOST_OF_A_KIND = 10_000
"""Visits of one widget key that Redis keeps at a time: half of the default of KATAVEN_WIDGET_ACCOUNT_VISITS."""


@dataclass(frozen=True)
class Floors:
    """What has to hold during an attack; None: it is not asked for. Ratios are to the slices without the attack."""

    good_p50: float = 3.0
    goal_p50: float = 2.0
    """Printed, and no reason to fail."""
    miss_p50: float = 4.0
    receipt_p50: float = 5.0
    """The median: of so few, the 99th percentile is the slowest one, which a busy machine makes."""
    probe_p50: float | None = None
    limited: bool = False
    """Whether strangers have to be answered 429 in the end."""
    lookups_per_request: float | None = None
    """Transactions in all databases, above those of quiet times."""
    held_mb_per_address: float | None = None
    """What one address can keep in Redis by asking all the time."""
    log_lines_per_request: float | None = None
    log_bytes_per_request: float | None = None


@dataclass
class Seen:
    """By the good clients, in all slices of one sort. An answer that is not the right one counts as all patience."""

    good_ms: list[float] = field(default_factory=list)
    miss_ms: list[float] = field(default_factory=list)
    probe_ms: list[float] = field(default_factory=list)
    receipt_ms: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    """Answers to the good key, misses and the revoker that were not the right ones, by status."""
    probes_failed: int = 0
    checks: int = 0
    """Requests with a key after its receipt."""
    late_accepts: int = 0
    """Those of them that were let in. There must be none."""

    def add(self, other: Seen) -> None:
        self.good_ms += other.good_ms
        self.miss_ms += other.miss_ms
        self.probe_ms += other.probe_ms
        self.receipt_ms += other.receipt_ms
        self.wrong += other.wrong
        self.probes_failed += other.probes_failed
        self.checks += other.checks
        self.late_accepts += other.late_accepts


@dataclass(frozen=True)
class LeftBehind:
    """New keys in Redis of one kind."""

    kind: str
    keys: int
    bytes: int
    ttl_seconds: float
    """The longest."""


@dataclass
class Cost:
    """Of an attack, beyond what the good clients cost meanwhile."""

    answers: Counter[str] = field(default_factory=Counter)
    """To the stranger: by status, `closed` and `no answer`; `opened` for connections that are only held."""
    seconds: float = 0.0
    """From the first time that it went on to the last time that it stopped."""
    lookups: Mapping[str, float] = field(default_factory=dict)
    """Transactions by database."""
    redis_bytes: int = 0
    left_behind: Sequence[LeftBehind] = ()
    log_lines: int = 0
    log_bytes: int = 0

    @property
    def requests(self) -> int:
        return max(1, self.answers.total())

    @property
    def lookups_per_request(self) -> float:
        return sum(self.lookups.values()) / self.requests

    @property
    def held_mb_per_address(self) -> float:
        """What stays if one address goes on like this: budgets are per minute, so what it left in a minute or less,
        for as many minutes as it lives, and not more keys of a kind than the product keeps (visits of a widget key)."""
        share = min(1.0, 60 / self.seconds) if self.seconds else 1.0
        return sum(left.bytes * self._times(left, share) for left in self.left_behind) / 1e6

    @staticmethod
    def _times(left: LeftBehind, share: float) -> float:
        return min(share * max(1.0, left.ttl_seconds / 60), MOST_OF_A_KIND / max(1, left.keys))


@dataclass(frozen=True)
class Row:
    """One attack."""

    name: str
    floors: Floors
    quiet: Seen
    attacked: Seen
    cost: Cost


def failures(row: Row) -> list[str]:
    """Which floors it does not keep; empty if it keeps all."""
    return [*_failures(row)]


def _failures(row: Row) -> Iterator[str]:
    floors, seen, cost = row.floors, row.attacked, row.cost
    for what, times, ceiling in (
        ("the good key's p50", times_p50(row.quiet.good_ms, seen.good_ms), floors.good_p50),
        ("p50 of misses", times_p50(row.quiet.miss_ms, seen.miss_ms), floors.miss_p50),
        ("p50 of receipts", times_p50(row.quiet.receipt_ms, seen.receipt_ms), floors.receipt_p50),
        ("p50 of /healthz", times_p50(row.quiet.probe_ms, seen.probe_ms), floors.probe_p50),
    ):
        if ceiling is not None and not (times is not None and times < ceiling):
            yield f"{what} is {_times(times)}, ceiling {ceiling:g} x"
    for what, value, ceiling in (
        ("look-ups per request", cost.lookups_per_request, floors.lookups_per_request),
        ("MB of Redis that one address can hold", cost.held_mb_per_address, floors.held_mb_per_address),
        ("lines in the log per request", cost.log_lines / cost.requests, floors.log_lines_per_request),
        ("bytes in the log per request", cost.log_bytes / cost.requests, floors.log_bytes_per_request),
    ):
        if ceiling is not None and value > ceiling:
            yield f"{what}: {value:.2f}, ceiling {ceiling:g}"
    if seen.probes_failed:
        yield f"/healthz was not answered in time {seen.probes_failed} times of {len(seen.probe_ms)}"
    if seen.wrong:
        yield f"good clients were not served: {listed(seen.wrong)}"
    if row.quiet.wrong:
        yield f"good clients were not served between the attacks: {listed(row.quiet.wrong)}"
    if floors.limited and not cost.answers["429"]:
        yield f"strangers were never limited: {listed(cost.answers)}"
    if cost.answers["500"]:
        yield f"strangers were answered 500 {cost.answers['500']} times"
    late = seen.late_accepts + row.quiet.late_accepts
    if late or not row.quiet.checks:
        yield f"{late} requests were let in after the receipt, of {seen.checks + row.quiet.checks}"


def times_p50(quiet: Sequence[float], attacked: Sequence[float]) -> float | None:
    """The median as a multiple of the quiet one; None where there was nothing to measure."""
    one, other = Percentiles.of(quiet), Percentiles.of(attacked)
    return None if one is None or other is None else other.p50 / one.p50


def times_p99(quiet: Sequence[float], attacked: Sequence[float]) -> float | None:
    one, other = Percentiles.of(quiet), Percentiles.of(attacked)
    return None if one is None or other is None else other.p99 / one.p99


COLUMNS = (
    "attack",
    "good p50, ms",
    "good p99, ms",
    "miss p50, ms",
    "receipt p50, ms",
    "receipt p99, ms",
    "/healthz p50, ms; failed",
    "wrong answers to good clients",
    "late accepts",
    "answers to strangers",
    "look-ups",
    "Redis",
    "log per request",
    "verdict",
)
WIDTHS = (15, 17, 18, 17, 17, 18, 24, 29, 12, 34, 44, 38, 15, 7)


def header() -> list[str]:
    return [_line(COLUMNS), "|".join(["", *("-" * (width + 2) for width in WIDTHS), ""])]


def line(row: Row) -> str:
    """The row of the table: what was measured in the attack, and how many times what it is without."""
    quiet, seen, cost = row.quiet, row.attacked, row.cost
    cells = (
        row.name,
        _against(quiet.good_ms, seen.good_ms, p99=False),
        _against(quiet.good_ms, seen.good_ms, p99=True),
        _against(quiet.miss_ms, seen.miss_ms, p99=False),
        _against(quiet.receipt_ms, seen.receipt_ms, p99=False),
        _against(quiet.receipt_ms, seen.receipt_ms, p99=True),
        f"{_against(quiet.probe_ms, seen.probe_ms, p99=False)}; {seen.probes_failed}/{len(seen.probe_ms)}",
        listed(seen.wrong) or "none",
        f"{seen.late_accepts}/{seen.checks}",
        listed(cost.answers),
        _lookups(cost),
        _redis(cost),
        f"{cost.log_lines / cost.requests:.1f} l {cost.log_bytes / cost.requests:.0f} B",
        "FAILS" if failures(row) else "keeps",
    )
    return _line(cells)


def listed(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name}:{number}" for name, number in sorted(counts.items()) if number)


def _lookups(cost: Cost) -> str:
    each = " ".join(f"{name.removeprefix('kataven_')}:{number:.0f}" for name, number in cost.lookups.items())
    return f"{each} = {cost.lookups_per_request:.2f}/req"


def _redis(cost: Cost) -> str:
    kept = f"{cost.redis_bytes / cost.requests:+.0f} B/req"
    if not cost.left_behind:
        return kept
    ttl = max(left.ttl_seconds for left in cost.left_behind)
    keys = sum(left.keys for left in cost.left_behind)
    return f"{kept}, {keys} keys {ttl / 60:.0f} min, {cost.held_mb_per_address:.1f} MB"


def _against(quiet: Sequence[float], attacked: Sequence[float], *, p99: bool) -> str:
    spread = Percentiles.of(attacked)
    if spread is None:
        return "-"
    value, times = (spread.p99, times_p99(quiet, attacked)) if p99 else (spread.p50, times_p50(quiet, attacked))
    return f"{value:.1f} ({_times(times)})"


def _times(times: float | None) -> str:
    return "not measured" if times is None else f"{times:.1f} x"


def _line(cells: Sequence[str]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
    return f"| {' | '.join(padded)} |"
