"""The chart of the story: P95 of POST /events at 10 concurrent, a bar for each stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from bench.baselines.page import Stage

WIDTH, LABEL, BAR, GAP, TOP = 920, 390, 20, 8, 56
COLOURS = {1: "#2f6fb3", 10: "#7b9fc7", 100: "#b08a3e", 10_000: "#b3502f"}
"""By organisations. Grey for another number."""
CLAIMED = ((2549, "session: before"), (96, "session: after"))


def svg(stages: Sequence[Stage]) -> str:
    """The picture, readable on a light and on a dark page."""
    measured = [stage.taken.ingest.p95_ms for stage in stages if stage.taken.ingest.p95_ms]
    low = 10 ** math.floor(math.log10(min([*measured, 1.0])))
    high = 10 ** math.ceil(math.log10(max([*measured, 2549])))

    def across(ms: float) -> float:
        return LABEL + (WIDTH - LABEL - 70) * math.log10(ms / low) / math.log10(high / low)

    bottom = TOP + len(stages) * (BAR + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 34}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="12">',
        "<title>P95 of POST /events, 100 requests at 10 concurrent, by step</title>",
        f'<rect width="{WIDTH}" height="{bottom + 34}" fill="#ffffff"/>',
        _words(12, 20, "P95 of 100 × POST /events at 10 concurrent, in ms (logarithmic)", "#222222", size=14),
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x = across(10**power)
        parts.append(_line(x, TOP - 6, bottom, "#dddddd"))
        parts.append(_words(x, bottom + 16, f"{10**power:,g}", "#555555", anchor="middle"))
    for ms, name in CLAIMED:
        parts.append(_line(across(ms), TOP - 6, bottom, "#222222", dashed=True))
        parts.append(_words(across(ms), TOP - 12, f"{name} {ms:,}", "#222222", anchor="middle"))
    for row, stage in enumerate(stages):
        parts += _bar(stage, TOP + row * (BAR + GAP), across)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(stage: Stage, y: float, across: Callable[[float], float]) -> list[str]:
    middle = y + BAR - 6
    name = f"{stage.title}, {stage.organisations:,} org."
    parts = [_words(LABEL - 8, middle, name, "#222222", anchor="end")]
    ms = stage.taken.ingest.p95_ms
    if ms is None:
        return [*parts, _words(LABEL + 6, middle, "no answer in the time that it had", "#b3502f")]
    colour = COLOURS.get(stage.organisations, "#888888")
    width = max(1.0, across(ms) - LABEL)
    parts.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
    return [*parts, _words(across(ms) + 5, middle, f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}", "#222222")]


def _words(x: float, y: float, text: str, colour: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}"'
        ' paint-order="stroke" stroke="#ffffff" stroke-width="3">'
        f"{escape(text)}</text>"
    )


def _line(x: float, top: float, bottom: float, colour: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}"{dashes}/>'
