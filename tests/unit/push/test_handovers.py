"""What the API here has just stored, taken into lanes without a read."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from triggers.push.handed_over import HANDOVER_SECONDS, Handovers
from triggers.push.lane import READ_AHEAD, Lane
from triggers.push.lanes_to_read import LanesToRead
from triggers.push.memory import PayloadMemory

from .test_dispatcher import make_due, make_lane


def handovers(filled: list[Lane] | None = None) -> Handovers:
    nothing: Any = None
    memory = PayloadMemory(LanesToRead().add)
    tell = [].append if filled is None else filled.append
    return Handovers(nothing, memory, lambda group_id: group_id >= 0, tell)


def caught_up(**settings: object) -> Lane:
    """A lane of which a read that ended just now has returned all that was due."""
    lane = make_lane(uuid4(), 0, **settings)
    lane.ahead.read_all(None)
    lane.ahead.end_read(time.monotonic())
    return lane


def test_a_lane_that_is_caught_up_takes_what_is_handed_over() -> None:
    filled: list[Lane] = []
    taking, lane = handovers(filled), caught_up()
    dues = [make_due(*lane.id) for _ in range(3)]
    assert taking.take_over(lane, dues, time.monotonic())
    assert [*lane.ahead.waiting] == dues
    assert filled == [lane]
    assert lane.ahead.handed_over


def stale(lane: Lane) -> None:
    lane.close()


def behind(lane: Lane) -> None:
    lane.ahead.hint()


def under_read(lane: Lane) -> None:
    lane.ahead.begin_read()


def renewed(lane: Lane) -> None:
    lane.renewed_at = time.monotonic() + 1


def full(lane: Lane) -> None:
    lane.ahead.waiting.extend(make_due(*lane.id) for _ in range(READ_AHEAD))


def disabled(lane: Lane) -> None:
    lane.disable()


def broken(lane: Lane) -> None:
    lane.breaker.probe_at = make_due(*lane.id).due_at


@pytest.mark.parametrize("state", [stale, behind, under_read, renewed, full, disabled, broken])
def test_any_other_lane_is_read(state: Callable[[Lane], None]) -> None:
    taking, lane = handovers(), caught_up()
    state(lane)
    waiting = len(lane.ahead.waiting)
    assert not taking.take_over(lane, [make_due(*lane.id)], time.monotonic())
    assert len(lane.ahead.waiting) == waiting


@pytest.mark.parametrize("settings", [{"ordering": "key"}, {"lane_group": -1}])
def test_a_lane_that_keeps_order_or_is_not_ours_takes_nothing_over(settings: dict[str, object]) -> None:
    taking, lane = handovers(), caught_up(**settings)
    assert not taking.take_over(lane, [make_due(*lane.id)], time.monotonic())


def test_what_comes_too_late_is_read() -> None:
    taking, lane = handovers(), caught_up()
    lane.renewed_at = 0.0
    assert not taking.take_over(lane, [make_due(*lane.id)], time.monotonic() - HANDOVER_SECONDS)


def test_what_a_read_has_returned_meanwhile_is_not_taken_again() -> None:
    taking, lane = handovers(), caught_up()
    asked_at = time.monotonic()
    waiting, settled, new = [make_due(*lane.id) for _ in range(3)]
    lane.ahead.add([waiting, settled])
    lane.ahead.waiting.remove(settled)
    lane.ahead.end_read(time.monotonic())
    lane.ahead.forget(settled.key)
    taking.settled(lane, settled.key)
    assert taking.take_over(lane, [waiting, settled, new], asked_at)
    assert [*lane.ahead.waiting] == [waiting, new]


@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.999])
def test_what_was_settled_is_remembered_as_long_as_it_may_be_handed_over(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    taking, lane = handovers(), caught_up()
    due = make_due(*lane.id)
    for moment in (100.0, 100.9, 100.9 + seconds):
        monkeypatch.setattr(time, "monotonic", partial(float, moment))
        taking.settled(lane, due.key if moment == 100.9 else make_due(*lane.id).key)
    lane.ahead.end_read(101.0)
    lane.renewed_at = 0.0
    assert taking.take_over(lane, [due], 100.95)
    assert not lane.ahead.waiting


def test_what_was_settled_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    taking, lane = handovers(), caught_up()
    again = make_due(*lane.id).key
    for step in range(40):
        monkeypatch.setattr(time, "monotonic", partial(float, 100 + step / 4))
        taking.settled(lane, again)
        taking.settled(lane, make_due(*lane.id).key)
    assert sum(map(len, taking._settled)) <= 2 * 5  # of two seconds, and itself in both
