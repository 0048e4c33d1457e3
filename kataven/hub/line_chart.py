"""Line charts of latency that the server draws as SVG, on a logarithmic scale with a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

WIDTH, HEIGHT = 720.0, 160.0
TICKS: Final = (1, 10, 100, 1_000, 10_000)
LEAST: Final = 0.5
"""The milliseconds at the bottom of the chart."""


@dataclass(frozen=True, slots=True)
class LatencyLine:
    """A line, as the path of an SVG. It has a gap for each minute without a value, and a dot for a lone minute."""

    name: str
    shape: str


@dataclass(frozen=True, slots=True)
class LatencyChart:
    """Percentiles by minute."""

    lines: Sequence[LatencyLine]
    ticks: Sequence[tuple[int, float]]
    """The milliseconds of each line of the scale, and its height in the drawing."""
    target_y: float
    times: Sequence[str]
    """The labels of the time axis, evenly spaced."""

    @property
    def view_box(self) -> str:
        return f"0 0 {WIDTH:g} {HEIGHT:g}"


Value = tuple[datetime, float]


def draw(
    series: Sequence[tuple[str, Sequence[Value]]], start: datetime, minutes: int, target_ms: float
) -> LatencyChart:
    """A chart of the `minutes` from `start`. `series` are the names of the lines with their values by minute."""
    most = max((value for _, values in series for _, value in values), default=0.0)
    top = next((tick for tick in TICKS if tick > max(most, target_ms)), TICKS[-1])

    def height(milliseconds: float) -> float:
        share = math.log(max(milliseconds, LEAST) / LEAST) / math.log(top / LEAST)
        return round(HEIGHT * (1 - min(1.0, share)), 1)

    return LatencyChart(
        [LatencyLine(name, _path(values, start, minutes, height)) for name, values in series],
        [(tick, height(tick)) for tick in TICKS if tick <= top],
        height(target_ms),
        [(start + timedelta(minutes=minutes * part / 4)).strftime("%H:%M") for part in range(4)],
    )


def _path(values: Sequence[Value], start: datetime, minutes: int, height: Callable[[float], float]) -> str:
    shape, before = "", -2
    for at, value in values:
        minute = round((at - start).total_seconds() / 60)
        x = round(WIDTH * (minute + 0.5) / minutes, 1)
        shape += f"{'L' if minute == before + 1 else 'M'}{x:g} {height(value):g}h.01"
        before = minute
    return shape
