"""The geometry of the charts, and the markup with its table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, FileSystemLoader

import kataven.hub
from kataven.hub import charts
from kataven.hub.charts import HEIGHT, LABELS, LEAST_HEIGHT, SPARK_HEIGHT, SPARK_WIDTH, WIDTH, BarChart
from kataven.usage.outcomes import CallOutcome
from kataven.usage.series import LENGTHS, OTHERS, Line, Loss, Point, Series, UsageInterval

START = datetime(2026, 3, 28, 13, tzinfo=UTC)
"""The clocks of Europe change within the following day."""
TEMPLATES = Path(kataven.hub.__file__).parent / "templates"
CLOSE = 0.011
"""Coordinates have two decimals."""

counts = st.integers(0, 10**12) | st.integers(0, 20)
outcomes = st.sampled_from([*CallOutcome, OTHERS])
columns_of_counts = st.lists(st.dictionaries(outcomes, counts, max_size=6), min_size=1, max_size=60)


def series_of(columns: list[Mapping[str, int]], interval: UsageInterval = UsageInterval.HOUR) -> Series:
    """A series of consecutive intervals, as `kataven.usage.series` returns it: only with points that have calls."""
    length, lines = LENGTHS[interval], []
    for outcome in LABELS:
        points = [Point(START + at * length, one[outcome]) for at, one in enumerate(columns) if one.get(outcome)]
        if points:
            lines.append(Line(outcome, sum(point.calls for point in points), 1.0, points))
    return Series(START, START + len(columns) * length, lines, Loss(0, 0))


def chart_of(*columns: Mapping[str, int], interval: UsageInterval = UsageInterval.HOUR) -> BarChart:
    return charts.by_outcome(series_of(list(columns), interval), interval, "Calls")


def rendered(template: str, **values: object) -> str:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string('{% import "hub/charts.html" as charts %}' + template).render(**values)


def parsed(markup: str) -> ET.Element:
    return ET.fromstring(markup)  # noqa: S314  our own markup


def rows_of(page: str) -> list[list[str]]:
    table = parsed(page[page.index("<table") : page.index("</table>") + 8])
    return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


@given(columns_of_counts)
def test_bars_add_up_to_the_calls_and_stay_inside_the_view_box(columns: list[Mapping[str, int]]) -> None:
    chart = chart_of(*columns)
    top, step = chart.scale[-1], WIDTH / len(columns)
    assert chart.calls == sum(sum(one.values()) for one in columns) == sum(layer.calls for layer in chart.layers)
    for bar in chart.bars:
        assert bar.height >= LEAST_HEIGHT - CLOSE
        assert bar.y >= -CLOSE
        assert bar.y + bar.height <= HEIGHT + CLOSE
        assert 0 <= bar.x < bar.x + bar.width <= WIDTH + CLOSE
    for at, one in enumerate(columns):
        stack = [bar for bar in chart.bars if at * step <= bar.x + bar.width / 2 < (at + 1) * step]
        outcomes_with_calls = [outcome for outcome in LABELS if one.get(outcome)]
        assert [bar.outcome for bar in stack] == outcomes_with_calls
        share = HEIGHT * sum(one.values()) / top
        assert sum(bar.height for bar in stack) == pytest.approx(max(share, LEAST_HEIGHT * len(stack)), abs=CLOSE)
        for lower, upper in itertools.pairwise(stack):
            assert upper.y + upper.height == pytest.approx(lower.y, abs=CLOSE), "bars neither overlap nor have gaps"


@given(st.integers(0, 10**15))
def test_scale_has_two_or_three_round_numbers_and_fits_every_count(most: int) -> None:
    scale = charts.round_scale(most)
    assert len(scale) in (2, 3)
    assert scale[0] == 0
    assert scale[-1] >= most
    assert most <= 1 or scale[-1] <= 2.5 * most, "the tallest bar is not small"
    assert len({after - before for before, after in itertools.pairwise(scale)}) == 1
    assert all(re.fullmatch(r"(1|2|25|5)0*", str(number)) for number in scale[1:2])


@given(st.lists(counts, max_size=48))
def test_spark_has_a_bar_for_each_hour_with_calls(hours: list[int]) -> None:
    by_hour = {START + timedelta(hours=at): calls for at, calls in enumerate(hours)}
    spark = charts.spark(by_hour, START + timedelta(minutes=17), len(hours))
    assert list(spark.counts) == hours
    assert len(spark.bars) == sum(1 for calls in hours if calls)
    assert all(0 < bar.height <= SPARK_HEIGHT + CLOSE and bar.y >= -CLOSE for bar in spark.bars)
    assert all(bar.x >= 0 and bar.x + bar.width <= SPARK_WIDTH + CLOSE for bar in spark.bars)


def test_one_failure_is_visible_next_to_very_many_calls() -> None:
    chart = chart_of({"ok": 9_999_999, "failed": 1}, {"ok": 1})
    sizes = [(bar.outcome, bar.height) for bar in chart.bars]
    assert sizes == [("ok", pytest.approx(HEIGHT - LEAST_HEIGHT, abs=0.01)), ("failed", 2), ("ok", 2)]
    assert chart.scale_labels == ["10M", "5M", "0"]


def test_times_are_in_utc_and_have_no_gap_when_the_clocks_change() -> None:
    chart = chart_of(*[{"ok": 1}] * 24)
    assert chart.times == ["13:00", "17:00", "21:00", "01:00", "05:00", "09:00"]
    assert [column.label for column in chart.columns][11:15] == [f"2026-03-29 0{hour}:00" for hour in range(4)]
    assert chart_of(*[{"ok": 1}] * 168).times[:2] == ["28 Mar", "29 Mar"]
    assert chart_of(*[{"ok": 1}] * 60, interval=UsageInterval.MINUTE).times[1] == "13:10"
    assert chart_of(*[{"ok": 1}] * 10, interval=UsageInterval.DAY).columns[9].label == "2026-04-06"


def test_chart_has_its_figures_in_words_and_in_a_table() -> None:
    chart = chart_of({"ok": 1200}, {}, {"ok": 3, "limited": 4, "*": 1})
    page = rendered("{{ charts.bars(chart) }}", chart=chart)
    assert rows_of(page) == [
        ["Time (UTC)", "Calls", "Succeeded", "Rate limited", "Other"],
        ["2026-03-28 15:00", "8", "3", "4", "1"],
        ["2026-03-28 13:00", "1,200", "1,200", "0", "0"],
    ]
    drawing = parsed(page[page.index('<svg class="drawing"') : page.index('<div class="over"')])
    assert drawing.attrib["role"] == "img"
    named = {child.attrib["id"]: child.text for child in drawing if child.tag in ("title", "desc")}
    assert list(named) == drawing.attrib["aria-labelledby"].split()
    assert named["calls-desc"] == (
        "1,208 calls: succeeded 1,203, rate limited 4, other 1. Most in one hour: 1,200, at 2026-03-28 13:00 UTC."
    )
    fills = [
        path.attrib.get("fill") or path.attrib["class"] for path in drawing.iter("path") if path.attrib["d"][-1] == "z"
    ]
    assert len(set(fills)) == 3, "outcomes differ by pattern, not by colour alone"
    assert "style=" not in page
    assert "<script" not in page


def test_hours_lead_to_their_calls_from_the_table_and_from_the_drawing() -> None:
    series = series_of([{"ok": 1}, {}, {"ok": 1}])
    two_hours_later = START + timedelta(hours=2)
    chart = charts.by_outcome(
        series, UsageInterval.HOUR, "Calls", lambda start, end: f"/?{start:%H}&{end:%H}" if start > START else None
    )
    assert [(column.start, column.path) for column in chart.columns if column.path] == [(two_hours_later, "/?15&16")]
    page = rendered("{{ charts.bars(chart) }}", chart=chart)
    assert page.count('href="/?15&amp;16"') == 2
    assert page.count('tabindex="-1" href=') == 1, "the keyboard reaches each hour once, in the table"


def test_period_without_calls_has_no_chart() -> None:
    chart = chart_of({}, {})
    assert chart.scale == (0, 1)
    assert chart.description == "No calls."
    assert (
        rendered("{{ charts.bars(chart, 'No calls yet.') }}", chart=chart).strip()
        == '<p class="quiet">No calls yet.</p>'
    )
    assert charts.by_outcome(Series(START, START, (), Loss(0, 0)), UsageInterval.HOUR, "Calls").columns == []


def test_sparks_share_one_table() -> None:
    sparks = [
        ("a", charts.spark({START: 5, START + timedelta(hours=2): 1200}, START, 3)),
        ("b", charts.spark({}, START, 3)),
    ]
    assert [spark.label for _, spark in sparks] == [
        "1,205 calls in 3 hours, most at 15:00 UTC: 1,200",
        "no calls in 3 hours",
    ]
    page = rendered("{{ charts.sparks_table(sparks, ['13', '14', '15'], 'Calls') }}", sparks=sparks)
    assert rows_of(page) == [["Calls (UTC)", "13", "14", "15"], ["a", "5", "", "1200"]]
    drawn = rendered("{{ charts.spark(spark) }}", spark=sparks[0][1])
    drawing = parsed(drawn)
    assert (drawing.attrib["role"], drawing.findtext("title")) == ("img", sparks[0][1].label)


def test_long_period_is_bounded() -> None:
    years = Series(START, START + timedelta(days=900), (), Loss(0, 0))
    assert len(charts.by_outcome(years, UsageInterval.HOUR, "Calls").columns) == charts.MAX_COLUMNS
