"""Whose lanes are read next, and how much at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from triggers.postgres.read_position import BEGINNING
from triggers.postgres.time_bounds import REREAD_SECONDS
from triggers.push.lane import READ_AHEAD, Lane
from triggers.push.reader import (
    FEW,
    HANDOVER_SECONDS,
    KNOWN_A_SECOND,
    LANES_A_READ,
    READ_AHEAD_BYTES,
    ROWS_A_READ,
    Reader,
)
from triggers.push.store import Due

from .test_dispatcher import make_due, make_lane

OTHER = UUID(int=7)


def reader(filled: list[Lane] | None = None) -> Reader:
    nothing: Any = None
    owning: Any = SimpleNamespace(group=lambda group_id: group_id if group_id >= 0 else None)
    return Reader(nothing, owning, lambda _: None, nothing, [].append if filled is None else filled.append)


def beyond_all(lane: Lane, begun_at: float | None = None) -> None:
    """Let the lane have been read to its end, from the beginning at `begun_at`, by the monotonic clock."""
    end = lane.queue[-1].due_at.replace(year=8000)
    lane.position.start(time.monotonic() if begun_at is None else begun_at)
    lane.position.note((end, uuid4()), end.replace(year=9000))


def test_a_thousand_lanes_of_one_keep_no_other_from_the_next_read() -> None:
    read = reader()
    noisy, quiet, other = uuid4(), uuid4(), uuid4()
    many = [(noisy, uuid4()) for _ in range(4 * LANES_A_READ)]
    few = [(quiet, uuid4()), (other, uuid4()), (quiet, uuid4())]
    for lane_id in [*many, *few, *many[:10]]:
        read.hint(lane_id)
    taken = read._take_hungry()
    assert len(taken) == LANES_A_READ
    assert set(few) < set(taken)
    assert taken[0] == many[0]
    assert [lane_id for lane_id in taken if lane_id[0] == noisy] == many[: LANES_A_READ - len(few)]
    # The rest comes in its order; one that is hungry again stands behind it.
    read.hint(taken[0])
    left = [lane_id for _ in range(4) for lane_id in read._take_hungry()]
    assert left == [*many[LANES_A_READ - len(few) :], taken[0]]
    assert read._take_hungry() == []


def test_what_is_known_already_makes_no_read_long() -> None:
    read = reader()
    lanes = [make_lane(uuid4(), 500) for _ in range(20)]
    planned = read._plan(lanes, 10)
    assert [(lane, start) for lane, start, _ in planned] == [
        (lane, BEGINNING) for lane in lanes[: len(planned)]
    ]
    assert {limit for _, _, limit in planned} == {510}
    assert 2 * ROWS_A_READ <= 510 * len(planned) < 2 * ROWS_A_READ + 510
    assert read._take_hungry() == [lane.id for lane in lanes[len(planned) :]], "in the next one"
    # From where it was read to, a lane has nothing to come once more.
    beyond_all(planned[0][0])
    assert [limit for _, _, limit in read._plan([planned[0][0]], 10)] == [10]


def test_what_is_known_is_read_again_only_as_far_as_there_is_time() -> None:
    read = reader()
    large, small, must = make_lane(uuid4(), 500), make_lane(uuid4(), FEW), make_lane(uuid4(), 500)
    for lane in (large, small, must):
        beyond_all(lane, time.monotonic() - REREAD_SECONDS)
    must.position.start_over()

    def starts(*lanes: Lane) -> list[bool]:
        return [start is BEGINNING for _, start, _ in read._plan(list(lanes), 10)]

    read._spare_at = time.monotonic() + 60
    assert starts(large, small, must) == [False, True, True], "few rows, and what must be, wait for nobody"
    read._spare_at = moment = time.monotonic()
    beyond_all(large, moment - REREAD_SECONDS)
    assert starts(large) == [True]
    assert read._spare_at - moment >= len(large.known) / KNOWN_A_SECOND


def test_payloads_in_memory_have_a_bound_that_a_thousand_lanes_keep() -> None:
    read = reader()
    size = READ_AHEAD_BYTES // 64
    taken: list[Due] = []
    lanes = [make_lane(uuid4() if n % 2 else OTHER, 0) for n in range(300)]
    for lane in lanes:
        due = make_due(lane.org_id, lane.id[1])
        due.payload_size = size
        taken += read._fitting(lane, [due])
    assert read._bytes == size * len(taken) == 2 * READ_AHEAD_BYTES, "one for each, up to twice the bound"
    assert read._take_hungry() == []
    while read._bytes >= READ_AHEAD_BYTES:
        read.sent(taken.pop())
    hungry = read._take_hungry()
    hungry += read._take_hungry()
    assert set(hungry) == {lane.id for lane in lanes[128:]}, "the others, once there is room"


def caught_up(**settings: object) -> Lane:
    """A lane of which a read that ended just now has returned all that was due."""
    lane = make_lane(uuid4(), 0, **settings)
    lane.drained, lane.read_until = True, time.monotonic()
    return lane


def test_a_lane_that_is_caught_up_takes_what_is_handed_over() -> None:
    filled: list[Lane] = []
    read, lane = reader(filled), caught_up()
    dues = [make_due(*lane.id) for _ in range(3)]
    assert read.take_over(lane, dues, time.monotonic())
    assert [*lane.queue] == dues
    assert filled == [lane]
    assert lane.handed_over
    assert read._take_hungry() == []


def stale(lane: Lane) -> None:
    lane.stale = True


def behind(lane: Lane) -> None:
    lane.drained = False


def under_read(lane: Lane) -> None:
    lane.read_until = math.inf


def renewed(lane: Lane) -> None:
    lane.renewed_at = time.monotonic() + 1


def full(lane: Lane) -> None:
    lane.queue.extend(make_due(*lane.id) for _ in range(READ_AHEAD))


def disabled(lane: Lane) -> None:
    lane.disable()


def broken(lane: Lane) -> None:
    lane.breaker.probe_at = make_due(*lane.id).due_at


@pytest.mark.parametrize("state", [stale, behind, under_read, renewed, full, disabled, broken])
def test_any_other_lane_is_read(state: Callable[[Lane], None]) -> None:
    read, lane = reader(), caught_up()
    state(lane)
    waiting = len(lane.queue)
    assert not read.take_over(lane, [make_due(*lane.id)], time.monotonic())
    assert len(lane.queue) == waiting


@pytest.mark.parametrize("settings", [{"ordering": "key"}, {"lane_group": -1}])
def test_a_lane_that_keeps_order_or_is_not_ours_takes_nothing_over(settings: dict[str, object]) -> None:
    read, lane = reader(), caught_up(**settings)
    assert not read.take_over(lane, [make_due(*lane.id)], time.monotonic())


def test_what_comes_too_late_is_read() -> None:
    read, lane = reader(), caught_up()
    lane.renewed_at = 0.0
    assert not read.take_over(lane, [make_due(*lane.id)], time.monotonic() - HANDOVER_SECONDS)


def test_what_a_read_has_returned_meanwhile_is_not_taken_again() -> None:
    read, lane = reader(), caught_up()
    asked_at = time.monotonic()
    waiting, settled, new = [make_due(*lane.id) for _ in range(3)]
    lane.add([waiting, settled])
    lane.queue.remove(settled)
    lane.read_until = time.monotonic()
    read.forget(lane, settled.key)
    assert settled.key not in lane.known
    assert read.take_over(lane, [waiting, settled, new], asked_at)
    assert [*lane.queue] == [waiting, new]


@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.999])
def test_what_was_settled_is_remembered_as_long_as_it_may_be_handed_over(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    read, lane = reader(), caught_up()
    due = make_due(*lane.id)
    for moment in (100.0, 100.9, 100.9 + seconds):
        monkeypatch.setattr(time, "monotonic", partial(float, moment))
        read.forget(lane, due.key if moment == 100.9 else make_due(*lane.id).key)
    lane.read_until, lane.renewed_at = 101.0, 0.0
    assert read.take_over(lane, [due], 100.95)
    assert not lane.queue


def test_what_was_settled_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    read, lane = reader(), caught_up()
    again = make_due(*lane.id).key
    for step in range(40):
        monkeypatch.setattr(time, "monotonic", partial(float, 100 + step / 4))
        read.forget(lane, again)
        read.forget(lane, make_due(*lane.id).key)
    assert sum(map(len, read._forgotten)) <= 2 * 5  # of two seconds, and itself in both
