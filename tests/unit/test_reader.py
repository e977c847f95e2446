"""Whose lanes are read next, and how much at once."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID, uuid4

from triggers.delivery.lane import BEGINNING, Lane
from triggers.delivery.reader import (
    FEW,
    KNOWN_A_SECOND,
    LANES_A_READ,
    READ_AHEAD_BYTES,
    ROWS_A_READ,
    Reader,
)
from triggers.storage.lane_store import Due

from .test_dispatcher import make_due, make_lane

OTHER = UUID(int=7)


def reader() -> Reader:
    nothing: Any = None
    return Reader(nothing, nothing, lambda _: None, nothing, nothing)


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
    planned[0][0].position = (planned[0][0].queue[-1].due_at.replace(year=9000), uuid4())
    assert [limit for _, _, limit in read._plan([planned[0][0]], 10)] == [10]


def test_what_is_known_is_read_again_only_as_far_as_there_is_time() -> None:
    read = reader()
    large, small, must = make_lane(uuid4(), 500), make_lane(uuid4(), FEW), make_lane(uuid4(), 500)
    for lane in (large, small, must):
        lane.position = (lane.queue[-1].due_at.replace(year=9000), uuid4())

    def starts(*lanes: Lane) -> list[bool]:
        return [start is BEGINNING for _, start, _ in read._plan(list(lanes), 10)]

    for lane in (large, small):
        lane.reread_at = time.monotonic()
    read._spare_at = time.monotonic() + 60
    assert starts(large, small, must) == [False, True, True], "few rows, and what must be, wait for nobody"
    read._spare_at = moment = time.monotonic()
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
