"""Turns numbers over time into the parts of a chart. Pure.

Places are in the units of the drawing: WIDTH from left to right, HEIGHT from the top down. A page stretches
the drawing to its own width, so texts are not part of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, NamedTuple

WIDTH: Final = 1000
HEIGHT: Final = 96
_MOST_MARKS: Final = 3
"""Maximum number of horizontal lines above zero."""
_TIMES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))
_SIZES: Final = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))

Values = Sequence[float | None]
"""One value for each step. None: there is no number for this step."""


class AxisLabel(NamedTuple):
    """A labelled place on an axis: of HEIGHT on the vertical axis, in percent on the horizontal one."""

    place: float
    label: str


class Curve(NamedTuple):
    """A line, and the area below it, as paths of SVG. Both are empty if there is no value."""

    line: str
    area: str


class LineChart(NamedTuple):
    """The curves of a chart, in the order of their values, and the marks of the vertical axis."""

    curves: list[Curve]
    marks: list[AxisLabel]


class Bars(NamedTuple):
    """Bars of several kinds, one above the other. `kinds` has a path of SVG for each kind."""

    kinds: list[str]
    marks: list[AxisLabel]


def line_chart(series: Sequence[Values], unit: str = "", *, whole: bool = False) -> LineChart:
    """Draw lines on one scale that begins at zero. A line is interrupted where there is no value.

    `whole`: the values are counts, so a mark is never between two whole numbers.
    """
    highest = max((value for values in series for value in values if value is not None), default=0.0)
    marks = scale(highest, whole=whole)
    top = marks[-1]
    return LineChart([_curve(values, top) for values in series], _labelled(marks, unit))


def bars(series: Sequence[Sequence[int]]) -> Bars:
    """Draw bars: those of the first series at the bottom, and those of the others on top of them."""
    marks = scale(_highest(series), whole=True)
    return Bars(_stacked(series, marks[-1], HEIGHT), _labelled(marks, ""))


def small_bars(series: Sequence[Sequence[int]], height: int) -> list[str]:
    """Return a path for each series, like `bars`, but so that the highest bar has the whole height."""
    return _stacked(series, _highest(series) or 1, height)


def scale(highest: float, *, whole: bool = False) -> list[float]:
    """Return the marks of an axis from zero to a round number that is not below `highest`."""
    if not highest > 0 or math.isinf(highest):
        return [0.0, 1.0]
    step = 10.0 ** math.floor(math.log10(highest / _MOST_MARKS))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step * _MOST_MARKS >= highest * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def time_marks(since: datetime, until: datetime, every: timedelta) -> list[AxisLabel]:
    """Return marks at round distances before `until`, the oldest first, such as `−45 min` and `now`.

    Labels of relative times are true in every time zone.
    """
    length = (until - since) / timedelta(seconds=1)
    if length <= 0:
        return []
    size, unit = next((each for each in _TIMES if every.total_seconds() >= each[0]), _TIMES[-1])
    marks = []
    for back in range(math.floor(length / every.total_seconds() + 1e-9), -1, -1):
        seconds = back * every.total_seconds()
        label = f"\N{MINUS SIGN}{seconds / size:g} {unit}" if back else "now"
        marks.append(AxisLabel(round(100 * (1 - seconds / length), 2), label))
    return marks


def span(since: datetime, until: datetime, start: datetime, end: datetime) -> tuple[float, float]:
    """Return the left side and the width of a time within a chart from `since` to `until`."""
    length = (until - since) / timedelta(seconds=1)
    if length <= 0:
        return 0.0, 0.0
    left, right = ((moment - since) / timedelta(seconds=1) / length for moment in (start, end))
    left, right = max(0.0, min(1.0, left)), max(0.0, min(1.0, right))
    return round(WIDTH * left, 1), round(WIDTH * (right - left), 1)


def compact(value: float) -> str:
    """Return a number in at most four digits, with a letter for thousands and more: `0.25`, `1.2k`."""
    for size, letter in _SIZES:
        if value >= size * 0.9995:
            return (
                f"{_digits(value / size)}{letter}"
                if value < size * 9_999.5
                else f"{value / size:.0e}{letter}"
            )
    return _digits(value)


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    if value < 0.001:
        return "<0.001"
    decimals = max(0, 2 - math.floor(math.log10(value) + 1e-9)) if value < 100 else 0
    text = f"{value:.{min(decimals, 3)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _labelled(marks: Sequence[float], unit: str) -> list[AxisLabel]:
    top = marks[-1]
    return [AxisLabel(round(HEIGHT * (1 - mark / top), 1), f"{compact(mark)}{unit}") for mark in marks]


def _curve(values: Values, top: float) -> Curve:
    line, area = [], []
    for missing, run in groupby(enumerate(values), lambda item: item[1] is None):
        if missing:
            continue
        points = [
            (round((place + 0.5) * WIDTH / len(values), 1), round(HEIGHT * (1 - (value or 0) / top), 1))
            for place, value in run
        ]
        first, last = points[0][0], points[-1][0]
        path = "L".join(f"{across:g} {down:g}" for across, down in points)
        # A single point is a line without a length, which its round ends make visible.
        line.append(f"M{path}{'h0' if len(points) == 1 else ''}")
        area.append(f"M{first:g} {HEIGHT}L{path}L{last:g} {HEIGHT}Z")
    return Curve("".join(line), "".join(area))


def _highest(series: Sequence[Sequence[int]]) -> int:
    return max((sum(values) for values in zip(*series, strict=True)), default=0)


def _stacked(series: Sequence[Sequence[int]], top: float, height: int) -> list[str]:
    steps = len(series[0]) if series else 0
    below = [0] * steps
    paths = []
    for values in series:
        path = []
        for place, value in enumerate(values):
            if value:
                path.append(_bar(place, steps, below[place] / top, value / top, height))
                below[place] += value
        paths.append("".join(path))
    return paths


def _bar(place: int, steps: int, below: float, share: float, height: int) -> str:
    """A bar fills three quarters of its step, and is never too low to be seen."""
    across = WIDTH / steps
    tall = max(1.5, height * share)
    left, bottom = place * across + across / 8, height * (1 - below)
    return f"M{left:.1f} {bottom:.1f}v{-tall:.1f}h{across * 0.75:.1f}v{tall:.1f}Z"
