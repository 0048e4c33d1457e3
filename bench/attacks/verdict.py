"""Compares measurements with and without an attack, and checks them against ceilings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kataven.revocation.latency_log import Percentiles

MAX_SESSIONS = 10_000
"""Visitor sessions that Redis keeps for one widget key: half of the default of KATAVEN_WIDGET_ACCOUNT_VISITS."""


@dataclass(frozen=True)
class Ceilings:
    """The ceilings during an attack; None is not checked. Ratios are relative to slices without the attack."""

    good_p50: float = 3.0
    target_p50: float = 2.0
    """A goal that is not checked."""
    miss_p50: float = 4.0
    receipt_p50: float = 5.0
    """The median, because the 99th percentile of so few samples is the slowest one, which depends on machine load."""
    probe_p50: float | None = None
    limited: bool = False
    """Whether some responses to the attacker must be 429."""
    lookups_per_request: float | None = None
    """Transactions in all databases above those without the attack."""
    held_mb_per_address: float | None = None
    """MB of Redis memory that one address can occupy with continuous requests."""
    log_lines_per_request: float | None = None
    log_bytes_per_request: float | None = None


@dataclass
class Observations:
    """Measurements of valid clients, with or without the attack. An unexpected response counts as a timeout."""

    known_ms: list[float] = field(default_factory=list)
    miss_ms: list[float] = field(default_factory=list)
    probe_ms: list[float] = field(default_factory=list)
    receipt_ms: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    """Unexpected responses to valid clients, by client and status."""
    probes_failed: int = 0
    checks: int = 0
    """Requests with a revoked key after its receipt."""
    late_accepts: int = 0
    """How many of them were accepted. Must be 0."""

    def add(self, other: Observations) -> None:
        self.known_ms += other.known_ms
        self.miss_ms += other.miss_ms
        self.probe_ms += other.probe_ms
        self.receipt_ms += other.receipt_ms
        self.wrong += other.wrong
        self.probes_failed += other.probes_failed
        self.checks += other.checks
        self.late_accepts += other.late_accepts


@dataclass(frozen=True)
class LeftBehind:
    """New Redis keys of one kind."""

    kind: str
    keys: int
    bytes: int
    ttl_seconds: float
    """The longest TTL."""


@dataclass
class Cost:
    """The cost of an attack, without the cost of valid clients."""

    responses: Counter[str] = field(default_factory=Counter)
    """Responses to the attacker by status, `closed` and `no response`; `opened` for connections that are only held."""
    seconds: float = 0.0
    """From the first start of the attack to its last stop."""
    lookups: Mapping[str, float] = field(default_factory=dict)
    """Transactions by database."""
    redis_bytes: int = 0
    left_behind: Sequence[LeftBehind] = ()
    log_lines: int = 0
    log_bytes: int = 0

    @property
    def requests(self) -> int:
        return max(1, self.responses.total())

    @property
    def lookups_per_request(self) -> float:
        return sum(self.lookups.values()) / self.requests

    @property
    def held_mb_per_address(self) -> float:
        """The MB that one address can occupy. Budgets are per minute, so this is the amount left in a minute, times the
        minutes until expiry, limited by the number of keys that the server keeps (sessions of a widget key)."""
        share = min(1.0, 60 / self.seconds) if self.seconds else 1.0
        return sum(left.bytes * self._times(left, share) for left in self.left_behind) / 1e6

    @staticmethod
    def _times(left: LeftBehind, share: float) -> float:
        return min(share * max(1.0, left.ttl_seconds / 60), MAX_SESSIONS / max(1, left.keys))


@dataclass(frozen=True)
class Row:
    """The measurements of one attack."""

    name: str
    ceilings: Ceilings
    quiet: Observations
    attacked: Observations
    cost: Cost


def failures(row: Row) -> list[str]:
    """The exceeded ceilings; empty if the attack is within all of them."""
    return [*_failures(row)]


def _failures(row: Row) -> Iterator[str]:
    ceilings, seen, cost = row.ceilings, row.attacked, row.cost
    for what, times, ceiling in (
        ("p50 of the valid key", times_p50(row.quiet.known_ms, seen.known_ms), ceilings.good_p50),
        ("p50 of cache misses", times_p50(row.quiet.miss_ms, seen.miss_ms), ceilings.miss_p50),
        ("p50 of receipts", times_p50(row.quiet.receipt_ms, seen.receipt_ms), ceilings.receipt_p50),
        ("p50 of /healthz", times_p50(row.quiet.probe_ms, seen.probe_ms), ceilings.probe_p50),
    ):
        if ceiling is not None and not (times is not None and times < ceiling):
            yield f"{what} is {_times(times)}, ceiling {ceiling:g} x"
    for what, value, ceiling in (
        ("lookups per request", cost.lookups_per_request, ceilings.lookups_per_request),
        ("MB of Redis memory per address", cost.held_mb_per_address, ceilings.held_mb_per_address),
        ("log lines per request", cost.log_lines / cost.requests, ceilings.log_lines_per_request),
        ("log bytes per request", cost.log_bytes / cost.requests, ceilings.log_bytes_per_request),
    ):
        if ceiling is not None and value > ceiling:
            yield f"{what}: {value:.2f}, ceiling {ceiling:g}"
    if seen.probes_failed:
        yield f"{seen.probes_failed} of {len(seen.probe_ms)} probes of /healthz timed out"
    if seen.wrong:
        yield f"valid clients were not served: {listed(seen.wrong)}"
    if row.quiet.wrong:
        yield f"valid clients were not served without the attack: {listed(row.quiet.wrong)}"
    if ceilings.limited and not cost.responses["429"]:
        yield f"no response to the attacker was 429: {listed(cost.responses)}"
    if cost.responses["500"]:
        yield f"{cost.responses['500']} responses to the attacker were 500"
    late = seen.late_accepts + row.quiet.late_accepts
    if late or not row.quiet.checks:
        yield f"{late} of {seen.checks + row.quiet.checks} requests were accepted after the receipt"


def times_p50(quiet: Sequence[float], attacked: Sequence[float]) -> float | None:
    """The median as a multiple of the median without the attack; None if nothing was measured."""
    one, other = Percentiles.of(quiet), Percentiles.of(attacked)
    return None if one is None or other is None else other.p50 / one.p50


def times_p99(quiet: Sequence[float], attacked: Sequence[float]) -> float | None:
    one, other = Percentiles.of(quiet), Percentiles.of(attacked)
    return None if one is None or other is None else other.p99 / one.p99


COLUMNS = (
    "attack",
    "valid p50, ms",
    "valid p99, ms",
    "miss p50, ms",
    "receipt p50, ms",
    "receipt p99, ms",
    "/healthz p50, ms; failed",
    "unexpected responses",
    "late accepts",
    "responses to attacker",
    "lookups",
    "Redis",
    "log per request",
    "verdict",
)
WIDTHS = (15, 17, 18, 17, 17, 18, 24, 29, 12, 34, 44, 38, 15, 7)


def header() -> list[str]:
    return [_line(COLUMNS), "|".join(["", *("-" * (width + 2) for width in WIDTHS), ""])]


def line(row: Row) -> str:
    """The row of the table: measurements during the attack, and their ratios to those without it."""
    quiet, seen, cost = row.quiet, row.attacked, row.cost
    cells = (
        row.name,
        _against(quiet.known_ms, seen.known_ms, p99=False),
        _against(quiet.known_ms, seen.known_ms, p99=True),
        _against(quiet.miss_ms, seen.miss_ms, p99=False),
        _against(quiet.receipt_ms, seen.receipt_ms, p99=False),
        _against(quiet.receipt_ms, seen.receipt_ms, p99=True),
        f"{_against(quiet.probe_ms, seen.probe_ms, p99=False)}; {seen.probes_failed}/{len(seen.probe_ms)}",
        listed(seen.wrong) or "none",
        f"{seen.late_accepts}/{seen.checks}",
        listed(cost.responses),
        _lookups(cost),
        _redis(cost),
        f"{cost.log_lines / cost.requests:.1f} l {cost.log_bytes / cost.requests:.0f} B",
        "FAIL" if failures(row) else "pass",
    )
    return _line(cells)


def listed(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name}:{number}" for name, number in sorted(counts.items()) if number)


def _lookups(cost: Cost) -> str:
    each = " ".join(f"{name.removeprefix('kataven_')}:{number:.0f}" for name, number in cost.lookups.items())
    return f"{each} = {cost.lookups_per_request:.2f}/req"


def _redis(cost: Cost) -> str:
    memory = f"{cost.redis_bytes / cost.requests:+.0f} B/req"
    if not cost.left_behind:
        return memory
    ttl = max(left.ttl_seconds for left in cost.left_behind)
    keys = sum(left.keys for left in cost.left_behind)
    return f"{memory}, {keys} keys {ttl / 60:.0f} min, {cost.held_mb_per_address:.1f} MB"


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
