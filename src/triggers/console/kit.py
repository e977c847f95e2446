"""Samples for the kit: each component when empty, loading, short, long, too long, failed and forbidden."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

from triggers.console.charts import Values, bars, compact, line_chart, time_marks
from triggers.console.payload_tree import draw
from triggers.console.story import Standing, State, tell
from triggers.console.timeline import Course, Try, chart
from triggers.console.trend import Figure, TrendAxis

_NOW: Final = datetime(2026, 3, 9, 14, 28, 10, tzinfo=UTC)
_LONG: Final = "a-name-that-is-far-too-long-for-its-place-and-has-no-room-to-break-" * 2
_PAYLOAD: Final = (
    b'{"id": 10000000000000000000001, "amount": 12.50, "paid": true, "note": null, "customer": {"name":'
    b' "Ada \\u202egpj.exe", "tags": ["new", "b2b"]}, "lines": []}'
)


def samples() -> dict[str, Any]:
    """Return the values of the kit's template."""
    return {
        "now": _NOW,
        "states": list(State),
        "long": _LONG,
        "stories": {name: tell(standings, _NOW) for name, standings in _STORIES.items()},
        "charts": {name: chart(courses, _ago(400), _NOW) for name, courses in _CHARTS.items()},
        "figures": {name: _figure(values) for name, values in _VALUES.items()},
        "bars": {name: bars(series) for name, series in _BARS.items()},
        "frame": TrendAxis(time_marks(_ago(3600), _NOW, timedelta(minutes=15)), [(500, 100)]),
        "tree": draw(_PAYLOAD, 500),
        "cut_tree": draw(_PAYLOAD, 4),
        "empty_tree": draw(b"{}", 4),
        "session": SimpleNamespace(csrf_token="kit"),  # noqa: S106 - no form of the kit is answered
    }


def _figure(values: Values) -> Figure:
    drawn = line_chart([values], "/s")
    total = compact(sum(value for value in values if value is not None))
    return Figure("Accepted", total, "in 1 h", [(drawn.curves[0], "accepted", "")], drawn.marks)


def _ago(seconds: float) -> datetime:
    return _NOW - timedelta(seconds=seconds)


def _standing(name: str = "billing", **values: Any) -> Standing:
    facts = {"status": "delivered", "accepted_at": _ago(400), "host": "api.example.com"}
    return Standing(name=name, **{**facts, **values})


def _failing(name: str = "billing", attempts: int = 4) -> Standing:
    return _standing(
        name,
        status="pending",
        attempts=attempts,
        most_attempts=9,
        failed_with="503",
        waiting_for="retry_time",
        next_at=_NOW + timedelta(minutes=4),
    )


def _tries(*seconds_ago: float, reason: str = "unavailable", delivered: bool = False) -> list[Try]:
    delays = (5, 30, 120, 900)
    return [
        Try(
            began_at=_ago(seconds),
            duration=timedelta(milliseconds=84),
            generation=0,
            number=number,
            outcome="delivered" if delivered and number == len(seconds_ago) else "retry",
            reason="delivered" if delivered and number == len(seconds_ago) else reason,
            retry_at=_ago(seconds) + timedelta(seconds=delays[number - 1]),
        )
        for number, seconds in enumerate(seconds_ago, start=1)
    ]


_DELAYS: Final = (5.0, 30.0, 120.0, 900.0)
_STORIES: Final = {
    "empty": [],
    "one": [_standing(settled_at=_ago(399.9))],
    "many": [_standing(), _standing("audit"), _failing()],
    "too long": [
        _failing(_LONG),
        _standing("audit", status="dead", attempts=9, failed_with="no answer in time"),
    ],
    "failed": [_standing(status="dead", attempts=9, failed_with="410")],
    "stopped": [_standing(status="pending", waiting_for="subscription_paused")],
}
_CHARTS: Final = {
    "waiting for its turn": [Course(tries=[], waiting_for="its_turn", is_open=True)],
    "one": [Course(tries=_tries(399.9, delivered=True))],
    "many": [
        Course(
            tries=_tries(399, 394, 362, 240),
            delays=_DELAYS,
            waiting_for="retry_time",
            next_at=_NOW + timedelta(minutes=4),
            is_open=True,
        ),
        Course(tries=_tries(399.5, 396, delivered=True), delays=_DELAYS),
        Course(tries=_tries(399.8, delivered=True), delays=_DELAYS),
    ],
    "Retry-After": [Course(tries=_tries(399, 60, delivered=True, reason="throttled"), delays=_DELAYS)],
}
_VALUES: Final[dict[str, Values]] = {
    "empty": [None] * 60,
    "one": [*[None] * 30, 0.5, *[None] * 29],
    "many, with a gap": [None if 30 <= place < 36 else 2 + place % 7 for place in range(60)],
    "too long": [place * 1e15 for place in range(60)],
}
_BARS: Final = {
    "empty": [[0] * 24, [0] * 24],
    "one": [[0] * 12 + [1] + [0] * 11, [0] * 24],
    "many, failed": [[40 + place for place in range(24)], [0] * 20 + [9, 20, 30, 50]],
}
