"""Turns the statistics of the API into the charts of a page, with their figures in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

from triggers.console import charts
from triggers.console.attention import BACKLOG_CAP
from triggers.console.charts import AxisLabel, Bars, Curve
from triggers.console.words import counted, duration
from triggers.domain import parse_time
from triggers.http.parameters import Query
from triggers.statistics.body import Point, Statistics

Chosen = Annotated[str, Query("range"), Meta(pattern="^(1h|24h|14d)$")]
"""The time range of the charts of a page."""
MARKED_EVERY: Final = {"1h": timedelta(minutes=30), "24h": timedelta(hours=6), "14d": timedelta(days=7)}
LENGTHS: Final = {"1h": "1 h", "24h": "24 h", "14d": "14 d"}
_LEAST_SECONDS: Final = 60.0
"""The rate of a step that began less than this time ago is not shown, because it says little."""


class Figure(NamedTuple):
    """A chart with its title, its most important number, and a note that explains the number.

    `curves` has the class of each curve, and its name if there are several.
    """

    title: str
    number: str
    note: str
    curves: list[tuple[Curve, str, str]]
    marks: list[AxisLabel]


class TrendAxis(NamedTuple):
    """The horizontal axis, which all charts of a page share. `gaps` are the times without numbers."""

    times: list[AxisLabel]
    gaps: list[tuple[float, float]]


class TimeWithout(NamedTuple):
    """A time without numbers. A gap that begins with the range has no `since`."""

    since: datetime | None
    until: datetime


class NumbersRow(NamedTuple):
    """A row of the table with the same numbers as the charts. They are texts."""

    at: str
    numbers: list[str]


def frame(found: Statistics) -> TrendAxis:
    """Return the horizontal axis."""
    since, until = _ends(found)
    places = [charts.span(since, until, parse_time(gap.since), parse_time(gap.until)) for gap in found.gaps]
    return TrendAxis(charts.time_marks(since, until, MARKED_EVERY[found.range]), places)


def gaps(found: Statistics) -> list[TimeWithout]:
    """Return the times without numbers."""
    return [
        TimeWithout(None if gap.since == found.since else parse_time(gap.since), parse_time(gap.until))
        for gap in found.gaps
    ]


def figures(found: Statistics) -> list[Figure]:
    """Return the charts of an organisation."""
    totals, length = found.totals, LENGTHS[found.range]
    dead = f", {counted(totals.dead, 'dead letter')}" if totals.dead else ""
    return [
        _rate(found, "Accepted", "accepted", "accepted"),
        _rate(found, "Delivered", "arrived", "delivered"),
        _rate(found, "Failed attempts", "failed", "failed", dead),
        _lag(found),
        _backlog(found, length),
    ]


def rows(found: Statistics) -> list[NumbersRow]:
    """Return the numbers of all charts, newest first."""
    table = []
    for point, seconds in zip(found.points, _seconds(found), strict=True):
        rates = [_per_second(count, seconds) for count in (point.accepted, point.delivered, point.failed)]
        lags = [
            "–" if lag is None else _lag_in_words(lag)
            for lag in (point.lag_p50_seconds, point.lag_p95_seconds)
        ]
        backlog = "–" if point.backlog is None else f"{point.backlog:,}"
        known = _known(found, point)
        numbers = [*rates, *lags, backlog] if known else ["–"] * 6
        table.append(NumbersRow(point.at, numbers))
    return table[::-1]


def attempts(found: Statistics) -> tuple[Bars, str]:
    """Return bars with the attempts of a subscription, delivered ones below failed ones, and a sentence."""
    delivered, failed = ([getattr(point, name) for point in found.points] for name in ("delivered", "failed"))
    totals, length = found.totals, LENGTHS[found.range]
    told = f"{totals.delivered:,} delivered and {counted(totals.failed, 'failed attempt')} in {length}"
    return charts.bars([delivered, failed]), told


def sparkline(delivered: Sequence[int], failed: Sequence[int]) -> tuple[list[str], str]:
    """Return the small chart of a subscription in a list, and the same in words."""
    told = f"{sum(delivered):,} delivered, {sum(failed):,} failed in 24 h"
    return charts.small_bars([delivered, failed], SPARK_HEIGHT), told


SPARK_HEIGHT: Final = 24


# ---- steps -----------------------------------------------------------------------------------------


def _rate(found: Statistics, title: str, kind: str, field: str, more: str = "") -> Figure:
    """The chart of a number that statistics have as the attribute `field`."""
    total: int = getattr(found.totals, field) or 0
    values = [
        (getattr(point, field) or 0) / seconds if seconds >= _LEAST_SECONDS and _known(found, point) else None
        for point, seconds in zip(found.points, _seconds(found), strict=True)
    ]
    chart = charts.line_chart([values], "/s")
    peak = max((value for value in values if value is not None), default=0.0)
    note = f"peak {charts.compact(peak)}/s{more}" if total else f"in {LENGTHS[found.range]}{more}"
    return Figure(title, f"{total:,}", note, [(chart.curves[0], kind, "")], chart.marks)


def _lag(found: Statistics) -> Figure:
    p50, p95 = ([getattr(point, name) for point in found.points] for name in _LAGS)
    highest = max((value for value in p95 if value is not None), default=0.0)
    factor, unit = (1, " s") if highest >= 1 else (1000, " ms")
    series = [[None if value is None else value * factor for value in values] for values in (p95, p50)]
    chart = charts.line_chart(series, unit)
    totals = found.totals
    if totals.lag_p95_seconds is None or totals.lag_p50_seconds is None:
        number, note = "–", "no first attempts"
    else:
        number = _lag_in_words(totals.lag_p95_seconds)
        note = f"P95 until the first attempt, P50 {_lag_in_words(totals.lag_p50_seconds)}"
    curves = [(chart.curves[0], "accepted", "P95"), (chart.curves[1], "half", "P50")]
    return Figure("Lag", number, note, curves, chart.marks)


_LAGS: Final = ("lag_p50_seconds", "lag_p95_seconds")


def _backlog(found: Statistics, length: str) -> Figure:
    values = [point.backlog for point in found.points]
    sampled = [value for value in values if value is not None]
    chart = charts.line_chart([values], whole=True)
    last = _capped(sampled[-1]) if sampled else "–"
    note = f"now, peak {_capped(max(sampled))} in {length}" if sampled else "not sampled yet"
    return Figure("Backlog", last, note, [(chart.curves[0], "waiting", "")], chart.marks)


def _capped(backlog: int) -> str:
    return f"{backlog:,}+" if backlog >= BACKLOG_CAP else f"{backlog:,}"


def _lag_in_words(seconds: float) -> str:
    return "over 65 s" if seconds >= 65.5 else duration(seconds)


def _per_second(count: int | None, seconds: float) -> str:
    return "–" if count is None or seconds < _LEAST_SECONDS else charts.compact(count / seconds)


def _seconds(found: Statistics) -> list[float]:
    """Return the length of each step so far. Only the last one has not ended yet."""
    last = (parse_time(found.until) - parse_time(found.points[-1].at)).total_seconds()
    return [*[float(found.step_seconds)] * (len(found.points) - 1), min(last, float(found.step_seconds))]


def _ends(found: Statistics) -> tuple[datetime, datetime]:
    since = parse_time(found.since)
    return since, since + timedelta(seconds=found.step_seconds) * len(found.points)


def _known(found: Statistics, point: Point) -> bool:
    """Whether there are numbers for a step. Times are RFC 3339 in UTC of one length, so texts compare."""
    return not any(gap.since <= point.at < gap.until for gap in found.gaps)
