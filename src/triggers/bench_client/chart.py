"""The distribution of the times as a chart: SVG that needs no script, no font and no other file.

The horizontal axis stretches the slowest requests, as charts of HdrHistogram do: each step to the right has a
tenth of the requests of the step before. The vertical axis is logarithmic too.
"""

from __future__ import annotations

import math
from typing import Final
from xml.sax.saxutils import escape

from triggers.bench_client.report import BenchReport, ReportRow

_WIDTH, _HEIGHT = 960, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 40, 56, 56
_COLOURS: Final = ("#1668b8", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#4b5563", "#be185d", "#0e7490")
_DASHES: Final = ("", "8 4", "2 4")
_PERCENTS: Final = (0.0, 50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
_POINTS: Final = 120
_MARKS: Final = tuple(digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5))
_LINE: Final = 20


def distribution(report: BenchReport, title: str) -> str:
    """Draw a curve for each row that has successes."""
    rows = [row for row in report.rows if row.recording.successes]
    lowest, highest = _bounds(rows)
    most = max((row.recording.successes for row in rows), default=1)
    decades = min(4.0, max(1.0, math.log10(most)))
    height = _HEIGHT + _LINE * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="26" font-size="16" font-weight="600" fill="#111">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="45" fill="#555">milliseconds, by percentile of the requests</text>',
        *_time_marks(lowest, highest),
        *_percent_marks(decades),
    ]
    for number, row in enumerate(rows):
        parts += _curve(row, number, decades, (lowest, highest))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bounds(rows: list[ReportRow]) -> tuple[float, float]:
    """The nearest marks around all times, in ms."""
    times = [t for row in rows for t in (row.recording.percentile_ms(0), row.longest_ms) if t > 0] or [1.0]
    lowest = max((mark for mark in _MARKS if mark <= min(times)), default=_MARKS[0])
    highest = min((mark for mark in _MARKS if mark >= max(times) and mark > lowest), default=_MARKS[-1])
    return lowest, highest


def _time_marks(lowest: float, highest: float) -> list[str]:
    marks = []
    for mark in _MARKS:
        if not lowest <= mark <= highest:
            continue
        y = _y(mark, (lowest, highest))
        marks.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        marks.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{mark:g}</text>')
    return marks


def _percent_marks(decades: float) -> list[str]:
    marks = []
    for percent in _PERCENTS:
        place = -math.log10(1 - percent / 100)
        if place > decades:
            break
        x = _x(place, decades)
        foot = _HEIGHT - _BOTTOM
        marks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{foot}" stroke="#eee"/>')
        marks.append(
            f'<text x="{x:.1f}" y="{foot + 20}" text-anchor="middle" fill="#555">{percent:g} %</text>'
        )
    return marks


def _curve(row: ReportRow, number: int, decades: float, bounds: tuple[float, float]) -> list[str]:
    """The curve of a row up to its last request, and its line in the legend."""
    colour = _COLOURS[number % len(_COLOURS)]
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    last = min(decades, math.log10(row.recording.successes)) if row.recording.successes > 1 else 0.0
    points = []
    for step in range(_POINTS + 1):
        place = last * step / _POINTS
        time = row.recording.percentile_ms(100 * (1 - 10**-place))
        points.append(f"{_x(place, decades):.1f},{_y(time, bounds):.1f}")
    style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
    y = _HEIGHT + _LINE * number
    name = escape(
        f"{row.phase}, {row.endpoint}: P50 {row.p50_ms:.1f}, P95 {row.p95_ms:.1f}, P99 {row.p99_ms:.1f} ms"
    )
    return [
        f'<polyline points="{" ".join(points)}" {style}/>',
        f'<line x1="{_LEFT}" x2="{_LEFT + 28}" y1="{y - 4}" y2="{y - 4}" {style}/>',
        f'<text x="{_LEFT + 38}" y="{y}" fill="#111">{name}</text>',
    ]


def _x(place: float, decades: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * place / decades


def _y(milliseconds: float, bounds: tuple[float, float]) -> float:
    lowest, highest = map(math.log10, bounds)
    share = (math.log10(max(milliseconds, bounds[0])) - lowest) / (highest - lowest)
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * min(share, 1.0)
