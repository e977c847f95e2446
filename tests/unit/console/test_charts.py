"""Charts as tables: scales, marks, and the paths of lines and bars."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from triggers.console.charts import (
    HEIGHT,
    AxisLabel,
    bars,
    compact,
    line_chart,
    scale,
    small_bars,
    span,
    time_marks,
)

NOW = datetime(2026, 3, 9, 14, 28, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("highest", "whole", "expected"),
    [
        (0, False, [0, 1]),
        (-3, False, [0, 1]),
        (math.inf, False, [0, 1]),
        (math.nan, False, [0, 1]),
        (1, False, [0, 0.5, 1]),
        (1, True, [0, 1]),
        (2, True, [0, 1, 2]),
        (3, True, [0, 1, 2, 3]),
        (4, True, [0, 2, 4]),
        (3.1, False, [0, 2, 4]),
        (30, False, [0, 10, 20, 30]),
        (31, False, [0, 20, 40]),
        (0.0007, False, [0, 0.0005, 0.001]),
        (99_999, True, [0, 50_000, 100_000]),
        (6e17, True, [0, 2e17, 4e17, 6e17]),
    ],
)
def test_a_scale_ends_at_a_round_number(highest: float, whole: bool, expected: list[float]) -> None:
    assert scale(highest, whole=whole) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (0.00001, "<0.001"),
        (0.012, "0.012"),
        (0.25, "0.25"),
        (1, "1"),
        (1.5, "1.5"),
        (12.34, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (999.6, "1k"),
        (1_234, "1.23k"),
        (100_000, "100k"),
        (12_300_000, "12.3M"),
        (5e9, "5G"),
        (1e15, "1e+06G"),
    ],
)
def test_numbers_are_short(value: float, expected: str) -> None:
    assert compact(value) == expected


@pytest.mark.parametrize(
    ("values", "line", "area"),
    [
        ([], "", ""),
        ([None, None], "", ""),
        ([2], "M500 0h0", "M500 96L500 0L500 96Z"),
        ([0, 2], "M250 96L750 0", "M250 96L250 96L750 0L750 96Z"),
        ([2, None, 1, 1], "M125 0h0M625 48L875 48", "M125 96L125 0L125 96ZM625 96L625 48L875 48L875 96Z"),
        ([None, 0], "M750 96h0", "M750 96L750 96L750 96Z"),
    ],
)
def test_a_line_is_interrupted_where_there_is_no_value(
    values: list[float | None], line: str, area: str
) -> None:
    assert line_chart([values], whole=True).curves == [(line, area)]


def test_lines_of_a_chart_share_a_scale() -> None:
    chart = line_chart([[1.0, 4.0], [2.0, None]], "/s")
    assert [curve.line for curve in chart.curves] == ["M250 72L750 0", "M250 48h0"]
    assert chart.marks == [AxisLabel(96, "0/s"), AxisLabel(48, "2/s"), AxisLabel(0, "4/s")]
    assert line_chart([]).marks == [AxisLabel(96, "0"), AxisLabel(0, "1")]


def test_many_points_of_huge_numbers_stay_inside() -> None:
    values: list[float | None] = [place * 1e15 for place in range(336)]
    chart = line_chart([values])
    numbers = [float(word) for word in chart.curves[0].line[1:].replace("L", " ").split()]
    assert len(numbers) == 2 * 336
    assert 0 < min(numbers[::2]) < max(numbers[::2]) < 1000
    assert 0 <= min(numbers[1::2]) < max(numbers[1::2]) <= HEIGHT


@pytest.mark.parametrize(
    ("series", "kinds"),
    [
        ([], []),
        ([[]], [""]),
        ([[0, 0]], [""]),
        ([[4]], ["M125.0 96.0v-96.0h750.0v96.0Z"]),
        (
            [[2, 0], [2, 4]],
            [
                "M62.5 96.0v-48.0h375.0v48.0Z",
                "M62.5 48.0v-48.0h375.0v48.0ZM562.5 96.0v-96.0h375.0v96.0Z",
            ],
        ),
        ([[1_000_000], [1]], ["M125.0 96.0v-64.0h750.0v64.0Z", "M125.0 32.0v-1.5h750.0v1.5Z"]),
    ],
)
def test_bars_stand_on_each_other(series: list[list[int]], kinds: list[str]) -> None:
    assert bars(series).kinds == kinds


def test_the_highest_small_bar_has_the_whole_height() -> None:
    assert small_bars([[3], [3]], 24) == ["M125.0 24.0v-12.0h750.0v12.0Z", "M125.0 12.0v-12.0h750.0v12.0Z"]
    assert small_bars([[0], [0]], 24) == ["", ""]


@pytest.mark.parametrize(
    ("length", "every", "expected"),
    [
        (HOUR, HOUR / 4, ["−60 min", "−45 min", "−30 min", "−15 min", "now"]),
        (24 * HOUR, 6 * HOUR, ["−24 h", "−18 h", "−12 h", "−6 h", "now"]),
        (HOUR, 2 * HOUR, ["now"]),
        (14 * 24 * HOUR, 7 * 24 * HOUR, ["−14 d", "−7 d", "now"]),
        (0 * HOUR, HOUR, []),
    ],
)
def test_time_is_marked_from_now_back(length: timedelta, every: timedelta, expected: list[str]) -> None:
    marks = time_marks(NOW - length, NOW, every)
    assert [mark.label for mark in marks] == expected
    assert all(0 <= mark.place <= 100 for mark in marks)
    assert not marks or marks[-1].place == 100


def test_a_time_has_a_place_inside_the_chart() -> None:
    assert span(NOW - HOUR, NOW, NOW - HOUR / 2, NOW - HOUR / 4) == (500, 250)
    assert span(NOW - HOUR, NOW, NOW - 2 * HOUR, NOW + HOUR) == (0, 1000)
    assert span(NOW, NOW, NOW, NOW) == (0, 0)
