"""Samples for the kit: each component when empty, loading, one, many, too long, failed and forbidden."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from uuid import UUID

from triggers.console.charts import Values, bars, compact, line_chart, small_bars, time_marks
from triggers.console.event_list_pages import AskedEvents
from triggers.console.kit_event import EventSamples
from triggers.console.payload_tree import draw
from triggers.console.scopes import MEANINGS, box_of, choices_for_key
from triggers.console.send_pages import Checked
from triggers.console.story import Standing, State, tell
from triggers.console.timeline import Course, Try, chart
from triggers.console.trend import LENGTHS, SPARK_HEIGHT, Figure, TimeWithout, TrendAxis
from triggers.console.undelivered_pages import Asked
from triggers.console.unmatched_pages import REASONS, caution, told
from triggers.domain import TENANT_SCOPES, Scope, rfc3339
from triggers.events.routes import EventPage, EventView
from triggers.previews.event_matching import Reason
from triggers.previews.event_routes import (
    EventDryRun,
    MatchedAddressee,
    OtherAddressee,
    Unmatched,
    UnsentAddressee,
)

_NOW: Final = datetime(2026, 3, 9, 14, 28, 10, tzinfo=UTC)
_LONG: Final = "a-name-that-is-far-too-long-for-its-place-and-has-no-room-to-break-" * 2
_PAYLOAD: Final = (
    b'{"id": 10000000000000000000001, "amount": 12.50, "paid": true, "note": null, "customer": {"name":'
    b' "Ada \\u202egpj.exe", "tags": ["new", "b2b"]}, "lines": []}'
)


class ListSample(NamedTuple):
    """A page of a list of events, with its filters."""

    page: EventPage
    asked: AskedEvents


class UnsentSample(NamedTuple):
    """Why an event was not sent to others, with its sentences."""

    found: Unmatched
    told: str
    caution: str


def samples() -> dict[str, Any]:
    """Return the values of the kit's template."""
    return {
        "now": _NOW,
        "states": list(State),
        "long": _LONG,
        "stories": {name: tell(standings, _NOW) for name, standings in _STORIES.items()},
        "events": EventSamples(_NOW, _LONG).all(),
        "charts": {name: chart(courses, _ago(400), _NOW) for name, courses in _CHARTS.items()},
        "lengths": LENGTHS,
        "figures": {name: _figure(values) for name, values in _VALUES.items()},
        "bars": {name: bars(series) for name, series in _BARS.items()},
        "sparks": {name: small_bars(series, SPARK_HEIGHT) for name, series in _BARS.items()},
        "gaps": [TimeWithout(_ago(3600), _ago(3000))],
        "frame": TrendAxis(time_marks(_ago(3600), _NOW, timedelta(minutes=15)), [(500, 100)]),
        "tree": draw(_PAYLOAD, 500),
        "one_tree": draw(b"1", 500),
        "cut_tree": draw(_PAYLOAD, 4),
        "empty_tree": draw(b"{}", 4),
        "lists": {
            "empty": ListSample(EventPage([], None, None), AskedEvents()),
            "one": ListSample(_page("order.paid"), AskedEvents()),
            "many, too long": ListSample(_page("order.paid", "invoice.paid", _LONG), AskedEvents("*")),
        },
        "asked": Asked("dead"),
        "choices": choices_for_key(TENANT_SCOPES),
        "boxes": [(box_of(scope), scope, MEANINGS[scope]) for scope in Scope if scope in TENANT_SCOPES],
        "recipients": _RECIPIENTS,
        "unmatched": {name: UnsentSample(it, told(it), caution(it)) for name, it in _UNMATCHED.items()},
        "reasons": REASONS,
        "sees_inboxes": True,
        "places": [],
        "session": SimpleNamespace(csrf_token="kit"),  # noqa: S106 - no form of the kit is answered
    }


def _page(*types: str) -> EventPage:
    events = [
        EventView(
            id=UUID(int=(0xC3D8481A << 96) + 0xE000 + number),
            type=name,
            dedup_id=None,
            source="/billing/ledger" if number else None,
            subject=name if name == _LONG else None,
            ordering_key=None,
            occurred_at=None,
            created_at=rfc3339(_ago(180)),
            payload_size=312,
        )
        for number, name in enumerate(types)
    ]
    return EventPage(events, "next" if len(types) > 1 else None, rfc3339(_ago(3600)))


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
    "empty": [Course(tries=[], waiting_for="its_turn", is_open=True)],
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
    "too long": [Course(tries=_tries(*[399.0 - each for each in (0, 4, 8, 12)]), delays=_DELAYS)] * 3,
    "failed": [Course(tries=_tries(399), delays=_DELAYS)],
    "Retry-After": [Course(tries=_tries(399, 60, delivered=True, reason="throttled"), delays=_DELAYS)],
}
_VALUES: Final[dict[str, Values]] = {
    "empty": [None] * 60,
    "one": [*[None] * 30, 0.5, *[None] * 29],
    "many, with a gap": [None if 30 <= place < 36 else 2 + place % 7 for place in range(60)],
    "too long": [place * 1e9 for place in range(60)],
}
_BARS: Final = {
    "empty": [[0] * 24, [0] * 24],
    "one": [[0] * 12 + [1] + [0] * 11, [0] * 24],
    "many, failed": [[40 + place for place in range(24)], [0] * 20 + [9, 20, 30, 50]],
}


def _run(matches: int, others: int, name: str = "billing") -> EventDryRun:
    """A dry run whose lists are as long as those of the API at most."""
    matched = [
        MatchedAddressee(
            subscription_id=UUID(int=number),
            kind="inbox" if number % 3 == 2 else "push",
            name=name,
            status="paused" if number % 3 == 1 else "active",
            filter_error=None,
        )
        for number in range(min(matches, 3))
    ]
    unmatched = [
        OtherAddressee(
            subscription_id=UUID(int=number), kind="push", name=name, status="active", reason="type"
        )
        for number in range(min(others, 3))
    ]
    reasons: dict[Reason, int] = {"type": others} if others else {}
    return EventDryRun(
        matched=matches,
        matches=matched,
        unmatched=others,
        others=unmatched,
        reasons=reasons,
        complete=matches < 1_000,
    )


_RECIPIENTS: Final = {
    "loading": Checked({}),
    "empty": Checked({}, _run(0, 2)),
    "one": Checked({}, _run(1, 0)),
    "many": Checked({}, _run(3, 3)),
    "too long": Checked({}, _run(1_000, 1_000, _LONG)),
    "failed": Checked({"type": "The type has a character that is not allowed."}),
}


def _unsent(number: int, name: str = "billing", *, failed: bool = False) -> Unmatched:
    others = [
        UnsentAddressee(
            subscription_id=UUID(int=place),
            kind="inbox" if place % 2 else "push",
            name=name,
            status="active",
            reason="filter" if failed else "type",
            filter_error="payload.total is not a number" if failed else None,
            changed_since=place == 1,
        )
        for place in range(min(number, 3))
    ]
    return Unmatched(
        unmatched=number,
        changed=int(number > 1),
        others=others,
        reasons={"filter" if failed else "type": number} if number else {},
        complete=number < 1_000,
    )


_UNMATCHED: Final = {
    "empty": _unsent(0),
    "one": _unsent(1),
    "many": _unsent(3),
    "too long": _unsent(1_204, _LONG),
    "failed": _unsent(1, failed=True),
}
