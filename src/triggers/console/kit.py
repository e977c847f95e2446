"""Samples for the kit: each component when empty, loading, short, long, too long, failed and forbidden."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

from triggers.console.payload_tree import draw
from triggers.console.story import Standing, State, tell
from triggers.console.timeline import Course, Try, chart

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
        "tree": draw(_PAYLOAD, 500),
        "cut_tree": draw(_PAYLOAD, 4),
        "empty_tree": draw(b"{}", 4),
        "session": SimpleNamespace(csrf_token="kit"),  # noqa: S106 - no form of the kit is answered
    }


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
