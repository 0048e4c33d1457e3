"""Charts that the server draws as SVG: calls by outcome over time, and the calls of a key in a row of a table.

The templates need neither a script nor a style attribute: positions are attributes of the SVG, and colours are classes.
A chart has the figures of its table, so that nothing depends on reading the drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from kataven.usage.outcomes import CallOutcome
from kataven.usage.series import LENGTHS, OTHERS, Series, UsageInterval

WIDTH, HEIGHT = 720.0, 160.0
"""The view box of a bar chart. The page stretches it horizontally."""
LEAST_HEIGHT: Final = 2.0
"""The height of a bar for a few calls. A single failure next to 10,000 calls must be visible."""
SPARK_WIDTH, SPARK_HEIGHT = 96.0, 20.0
MAX_COLUMNS = 400
_GAP = 0.2
"""The part of a column that is empty."""
_SPARK_BAR = 0.75
_TICKS = (7, 6, 5, 4, 3, 2)
"""How many labels the time axis can have, the best first. They are evenly spaced, so the columns must be divisible."""

LABELS: Final[Mapping[str, str]] = {
    CallOutcome.OK: "Succeeded",
    CallOutcome.INVALID: "Invalid",
    CallOutcome.REFUSED: "Refused",
    CallOutcome.LIMITED: "Rate limited",
    CallOutcome.FAILED: "Failed",
    OTHERS: "Other",
}
"""The outcomes in the order in which they are stacked, from bottom to top."""

PathOf = Callable[[datetime, datetime], str | None]
"""The page with the calls from a time until another, if it exists."""


@dataclass(frozen=True, slots=True)
class Column:
    """The calls of one interval."""

    start: datetime
    label: str
    counts: Mapping[str, int]
    """By outcome, without those that have no calls."""
    path: str | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of the drawing, in units of the view box."""

    outcome: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Layer:
    """The bars of one outcome, as a path, and its entry in the legend."""

    outcome: str
    label: str
    calls: int
    shape: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Stacked bars by outcome, with a label for each axis tick."""

    id: str
    """Unique within the page."""
    title: str
    description: str
    columns: Sequence[Column]
    bars: Sequence[Bar]
    layers: Sequence[Layer]
    """The outcomes with calls, from bottom to top."""
    scale: Sequence[int]
    """The numbers of the vertical axis, from bottom to top: evenly spaced."""
    times: Sequence[str]
    """The labels of the horizontal axis: evenly spaced, each at the start of its part."""
    by_minute: bool

    @property
    def calls(self) -> int:
        return sum(column.total for column in self.columns)

    @property
    def is_linked(self) -> bool:
        return any(column.path for column in self.columns)

    @property
    def scale_labels(self) -> Sequence[str]:
        """From top to bottom."""
        return [compact(number) for number in reversed(self.scale)]

    @property
    def lines(self) -> Sequence[float]:
        """The height of each line of the vertical axis."""
        return [round(HEIGHT - HEIGHT * number / self.scale[-1], 1) for number in self.scale]

    @property
    def view_box(self) -> str:
        return f"0 0 {WIDTH:g} {HEIGHT:g}"


@dataclass(frozen=True, slots=True)
class Spark:
    """The calls of one key by hour, as a small drawing without axes."""

    label: str
    """The figures in words."""
    counts: Sequence[int]
    bars: Sequence[Bar]
    shape: str

    @property
    def calls(self) -> int:
        return sum(self.counts)

    @property
    def view_box(self) -> str:
        return f"0 0 {SPARK_WIDTH:g} {SPARK_HEIGHT:g}"


def by_outcome(
    series: Series, interval: UsageInterval, title: str, path_of: PathOf | None = None, chart_id: str = "calls"
) -> BarChart:
    """The chart of a series by outcome. Has a column for each interval of its period."""
    counts: dict[datetime, dict[str, int]] = {}
    for line in series.lines:
        outcome = line.group if line.group in LABELS else OTHERS
        for point in line.points:
            found = counts.setdefault(point.at.astimezone(UTC), {})
            found[outcome] = found.get(outcome, 0) + point.calls
    length = LENGTHS[interval]
    columns = [
        Column(
            start,
            _time(start, interval),
            {name: counts[start][name] for name in LABELS if counts.get(start, {}).get(name)},
            path_of(start, start + length) if path_of and start in counts else None,
        )
        for start in _starts(series.start.astimezone(UTC), series.end.astimezone(UTC), length)
    ]
    scale = round_scale(max((column.total for column in columns), default=0))
    bars = list(_bars([column.counts for column in columns], scale[-1], WIDTH, HEIGHT))
    return BarChart(
        id=chart_id,
        title=title,
        description=_description(columns, interval),
        columns=columns,
        bars=bars,
        layers=_layers(columns, bars),
        scale=scale,
        times=_times(columns, interval),
        by_minute=interval is UsageInterval.MINUTE,
    )


def spark(hours: Mapping[datetime, int], start: datetime, count: int = 24) -> Spark:
    """The calls by hour of `count` hours, from the hour of `start` on. Whole numbers, so that a list stays small."""
    first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    by_hour = {at.astimezone(UTC): calls for at, calls in hours.items()}
    counts = [by_hour.get(first + timedelta(hours=at), 0) for at in range(count)]
    most = max(counts, default=0)
    if not most:
        return Spark(f"no calls in {count} hours", counts, (), "")
    step = SPARK_WIDTH / count
    bars = []
    for at, calls in enumerate(counts):
        if calls:
            size = max(1.0, float(round(SPARK_HEIGHT * calls / most)))
            bars.append(Bar(CallOutcome.OK, at * step, SPARK_HEIGHT - size, step * _SPARK_BAR, size))
    peak = first + timedelta(hours=counts.index(most))
    words = f"{sum(counts):,} calls in {count} hours, most at {peak:%H:%M} UTC: {most:,}"
    return Spark(words, counts, bars, _shape(bars))


def round_scale(most: int) -> Sequence[int]:
    """Two or three round numbers from 0 to at least `most`: 0, 250, 500 for 412."""
    if most <= 1:
        return (0, 1)
    step = next(step for step in _round_steps() if 2 * step >= most)
    return (0, step, 2 * step)


def _round_steps() -> Iterator[int]:
    """1, 2, 5, 10, 20, 25, 50, 100, …"""
    yield from (1, 2, 5)
    power = 10
    while True:
        yield from (power, 2 * power, 5 * power // 2, 5 * power)
        power *= 10


def compact(number: int) -> str:
    """`9,000`, `25k`, `2.5M`: short enough for an axis."""
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= size:
            return f"{number / (1000 if unit == 'k' else size):g}{unit}"
    return f"{number:,}"


def heights(counts: Sequence[int], top: int, height: float) -> Sequence[float]:
    """The heights of stacked bars. They add up to the share of the total, or to `LEAST_HEIGHT` for each of a few calls.

    Small bars get `LEAST_HEIGHT` at the cost of the tallest, so that the total remains right.
    """
    exact = [height * count / top for count in counts]
    found = [max(one, LEAST_HEIGHT) if count else 0.0 for one, count in zip(exact, counts, strict=True)]
    excess = sum(found) - max(sum(exact), LEAST_HEIGHT * sum(1 for count in counts if count))
    while excess > 1e-9:
        tallest = max(range(len(found)), key=found.__getitem__)
        taken = min(excess, found[tallest] - LEAST_HEIGHT)
        if taken <= 0:
            break
        found[tallest] -= taken
        excess -= taken
    return found


def _bars(columns: Sequence[Mapping[str, int]], top: int, width: float, height: float) -> Iterator[Bar]:
    step = width / max(len(columns), 1)
    for at, counts in enumerate(columns):
        base = height
        for outcome, size in zip(counts, heights(list(counts.values()), top, height), strict=True):
            if size:
                base -= size
                yield Bar(outcome, at * step + step * _GAP / 2, base, step * (1 - _GAP), size)


def _layers(columns: Sequence[Column], bars: Sequence[Bar]) -> Sequence[Layer]:
    found = []
    for outcome, label in LABELS.items():
        calls = sum(column.counts.get(outcome, 0) for column in columns)
        if calls:
            found.append(Layer(outcome, label, calls, _shape([bar for bar in bars if bar.outcome == outcome])))
    return found


def _shape(bars: Sequence[Bar]) -> str:
    """One path for all bars: a fraction of the size of one element for each."""
    return "".join(
        f"M{_number(bar.x)} {_number(bar.y)}h{_number(bar.width)}v{_number(bar.height)}h-{_number(bar.width)}z"
        for bar in bars
    )


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _starts(start: datetime, end: datetime, length: timedelta) -> Iterator[datetime]:
    for _ in range(MAX_COLUMNS):
        if start >= end:
            return
        yield start
        start += length


def _time(at: datetime, interval: UsageInterval) -> str:
    """The time of a column, in UTC: hours of the local time can be missing or occur twice."""
    return f"{at:%Y-%m-%d}" if interval is UsageInterval.DAY else f"{at:%Y-%m-%d %H:%M}"


def _times(columns: Sequence[Column], interval: UsageInterval) -> Sequence[str]:
    """Evenly spaced labels of the time axis."""
    if not columns:
        return ()
    count = next((ticks for ticks in _TICKS if len(columns) % ticks == 0), 1)
    starts = [column.start for column in columns[:: len(columns) // count]]
    of_days = interval is UsageInterval.DAY or columns[-1].start - columns[0].start > timedelta(hours=48)
    return [f"{start.day} {start:%b}" if of_days else f"{start:%H:%M}" for start in starts]


def _description(columns: Sequence[Column], interval: UsageInterval) -> str:
    """The chart in words, for those who don't see it."""
    busiest = max(columns, key=lambda column: column.total, default=None)
    if busiest is None or not busiest.total:
        return "No calls."
    total = sum(column.total for column in columns)
    parts = []
    for outcome, label in LABELS.items():
        if calls := sum(column.counts.get(outcome, 0) for column in columns):
            parts.append(f"{label.lower()} {calls:,}")
    return f"{total:,} calls: {', '.join(parts)}. Most in one {interval}: {busiest.total:,}, at {busiest.label} UTC."


TARGET_MS: Final = 10.0
"""How soon after its publication every worker should have applied a revocation."""
WORKER_WIDTH = 100.0


@dataclass(frozen=True, slots=True)
class WorkerBar:
    """When one worker received and applied a revocation: two adjacent bars from the publication on."""

    worker: str
    heard_ms: float
    forgotten_ms: float
    heard_width: float
    forgotten_width: float
    """Until the worker had evicted the credential, after it had received the event."""

    @property
    def is_late(self) -> bool:
        return self.forgotten_ms > TARGET_MS


@dataclass(frozen=True, slots=True)
class WorkerChart:
    """A bar per worker, the slowest first, on one scale with the target."""

    bars: Sequence[WorkerBar]
    scale_ms: float
    """The end of the scale."""
    target_x: float
    """The line of the target, in units of the view box."""

    @property
    def slowest_ms(self) -> float:
        return max((bar.forgotten_ms for bar in self.bars), default=0.0)


def workers(times: Sequence[Mapping[str, object]]) -> WorkerChart:
    """The chart of the `times` of an audit event. Times of another form are left out."""
    found = []
    for one in times:
        heard, forgotten = one.get("heard_ms"), one.get("forgotten_ms")
        if isinstance(heard, int | float) and isinstance(forgotten, int | float):
            found.append((str(one.get("worker", "")), max(0.0, float(heard)), max(0.0, float(forgotten))))
    found.sort(key=lambda one: (-one[2], one[0]))
    slowest = max((forgotten for _, _, forgotten in found), default=0.0)
    scale = 1.25 * TARGET_MS
    if slowest > scale:
        scale = float(next(step for step in _round_steps() if step >= slowest))
    bars = []
    for worker, heard, forgotten in found:
        end = WORKER_WIDTH * forgotten / scale
        until_heard = min(WORKER_WIDTH * heard / scale, end)
        bars.append(WorkerBar(worker, heard, forgotten, until_heard, end - until_heard))
    return WorkerChart(bars, scale, WORKER_WIDTH * TARGET_MS / scale)
