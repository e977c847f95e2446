"""The time axis of an event's deliveries, and the reasons in its gaps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from triggers.console.story import State
from triggers.console.timeline import Course, Try, chart, reason_of_gap, reason_of_wait

START = datetime(2026, 3, 9, 14, 0, 0, tzinfo=UTC)
DELAYS = (5.0, 30.0, 120.0)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def tried(
    seconds: float, number: int, *, reason: str = "unavailable", wait: float | None = 5.0, generation: int = 0
) -> Try:
    return Try(
        began_at=at(seconds),
        duration=timedelta(0),
        generation=generation,
        number=number,
        outcome="delivered" if reason == "delivered" else "retry",
        reason=reason,
        retry_at=None if wait is None else at(seconds + wait),
    )


@pytest.mark.parametrize(
    ("before", "after", "label"),
    [
        (None, tried(0.1, 1), "its turn"),
        (None, tried(9, 2), "worker lost"),
        (tried(0, 1), tried(5.1, 2), "schedule"),
        (tried(0, 1), tried(2, 2), "retried by hand"),
        (tried(0, 1, wait=60.0), tried(60, 2), "Retry-After"),
        (tried(0, 1, wait=60.0, reason="timeout"), tried(60, 2), "schedule"),
        (tried(0, 1), tried(20, 3), "worker lost"),
        (tried(0, 1, wait=None), tried(500, 1, generation=1), "sent again"),
    ],
    ids=range(8),
)
def test_a_gap_has_its_reason(before: Try | None, after: Try, label: str) -> None:
    assert reason_of_gap(before, after, DELAYS) == label


@pytest.mark.parametrize(
    ("waiting_for", "label"),
    [
        ("retry_time", "Retry-After"),
        ("failing_endpoint", "probe"),
        ("subscription_paused", "paused"),
        ("earlier_of_its_key", "earlier event of its key"),
        ("its_turn", "its turn"),
    ],
)
def test_what_waits_now_has_its_reason(waiting_for: str, label: str) -> None:
    course = Course(tries=[], delays=DELAYS, waiting_for=waiting_for, is_open=True)
    assert reason_of_wait(tried(0, 1, wait=600.0), course) == label


def test_one_axis_is_shared_and_keeps_the_order_of_time() -> None:
    first = Course(
        tries=[tried(0.1, 1), tried(5.2, 2), tried(36, 3)], delays=DELAYS, is_open=True, next_at=at(300)
    )
    second = Course(tries=[tried(0.1, 1, reason="delivered", wait=None)])
    drawn = chart([first, second], START, at(100))
    (marks, gaps), (others, _) = drawn.tracks
    places = [mark.place for mark in marks]
    assert places == sorted(places)
    assert others[0].place == places[0]
    assert drawn.now is not None
    assert places[2] < drawn.now < places[3]
    assert [mark.state for mark in marks] == [State.FAILED] * 3 + [State.WAITING]
    assert others[0].state is State.ARRIVED
    assert gaps[-1].is_now
    assert next(tick.label for tick in drawn.ticks) == "accepted"
    assert drawn.ticks[-1].label == "in 3 min"
    assert all(
        later.place - before.place >= 9 for before, later in zip(drawn.ticks, drawn.ticks[1:], strict=False)
    )


def test_an_event_without_attempts_has_an_axis_too() -> None:
    drawn = chart([], START, START)
    assert next(tick.label for tick in drawn.ticks) == "accepted"
    assert chart([Course(tries=[], is_open=True)], START, START).tracks[0][0] == []
