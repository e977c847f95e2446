"""How much is read at once, and from where."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from triggers.postgres.read_position import BEGINNING
from triggers.postgres.time_bounds import REREAD_SECONDS
from triggers.push.lane import Lane
from triggers.push.lanes import Lanes
from triggers.push.lanes_to_read import LanesToRead
from triggers.push.memory import PayloadMemory
from triggers.push.reader import FEW, KNOWN_A_SECOND, LANES_A_READ, ROWS_A_READ, Reader, Supply

from .test_dispatcher import make_lane

NOTHING: Any = None


def reader() -> tuple[Reader, LanesToRead]:
    to_read = LanesToRead()
    memory = PayloadMemory(to_read.add)
    lanes = Lanes(NOTHING, to_read, memory, NOTHING)
    return Reader(NOTHING, Supply(lanes, to_read, memory, lambda _: True, NOTHING)), to_read


def beyond_all(lane: Lane, begun_at: float | None = None) -> None:
    """Let the lane have been read to its end, from the beginning at `begun_at`, by the monotonic clock."""
    end = lane.ahead.waiting[-1].due_at.replace(year=8000)
    lane.ahead.position.start(time.monotonic() if begun_at is None else begun_at)
    lane.ahead.position.note((end, uuid4()), end.replace(year=9000))


def test_what_is_known_already_makes_no_read_long() -> None:
    read, to_read = reader()
    lanes = [make_lane(uuid4(), 500) for _ in range(20)]
    planned = read.plan(lanes, 10)
    assert [(lane, start) for lane, start, _ in planned] == [
        (lane, BEGINNING) for lane in lanes[: len(planned)]
    ]
    assert {limit for _, _, limit in planned} == {510}
    assert 2 * ROWS_A_READ <= 510 * len(planned) < 2 * ROWS_A_READ + 510
    assert to_read.take(LANES_A_READ) == [lane.id for lane in lanes[len(planned) :]], "in the next one"
    # From where it was read to, a lane has nothing to come once more.
    beyond_all(planned[0][0])
    assert [limit for _, _, limit in read.plan([planned[0][0]], 10)] == [10]


def test_what_is_known_is_read_again_only_as_far_as_there_is_time() -> None:
    read, _ = reader()
    large, small, must = make_lane(uuid4(), 500), make_lane(uuid4(), FEW), make_lane(uuid4(), 500)
    for lane in (large, small, must):
        beyond_all(lane, time.monotonic() - REREAD_SECONDS)
    must.ahead.position.start_over()

    def starts(*lanes: Lane) -> list[bool]:
        return [start is BEGINNING for _, start, _ in read.plan(list(lanes), 10)]

    read._spare_at = time.monotonic() + 60
    assert starts(large, small, must) == [False, True, True], "few rows, and what must be, wait for nobody"
    read._spare_at = moment = time.monotonic()
    beyond_all(large, moment - REREAD_SECONDS)
    assert starts(large) == [True]
    assert read._spare_at - moment >= len(large.ahead.known) / KNOWN_A_SECOND
