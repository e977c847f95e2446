"""Whose lanes are read next."""

from __future__ import annotations

from uuid import uuid4

from triggers.push.lanes_to_read import LanesToRead
from triggers.push.reader import LANES_A_READ


def test_a_thousand_lanes_of_one_keep_no_other_from_the_next_read() -> None:
    to_read = LanesToRead()
    noisy, quiet, other = uuid4(), uuid4(), uuid4()
    many = [(noisy, uuid4()) for _ in range(4 * LANES_A_READ)]
    few = [(quiet, uuid4()), (other, uuid4()), (quiet, uuid4())]
    for lane_id in [*many, *few, *many[:10]]:
        to_read.add(lane_id)
    taken = to_read.take(LANES_A_READ)
    assert len(taken) == LANES_A_READ
    assert set(few) < set(taken)
    assert taken[0] == many[0]
    assert [lane_id for lane_id in taken if lane_id[0] == noisy] == many[: LANES_A_READ - len(few)]
    # The rest comes in its order; one that comes again stands behind it.
    to_read.add(taken[0])
    left = [lane_id for _ in range(4) for lane_id in to_read.take(LANES_A_READ)]
    assert left == [*many[LANES_A_READ - len(few) :], taken[0]]
    assert to_read.take(LANES_A_READ) == []
