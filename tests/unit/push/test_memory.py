"""How many bytes of payloads wait in memory."""

from __future__ import annotations

from uuid import UUID, uuid4

from triggers.domain import LaneId
from triggers.push.memory import READ_AHEAD_BYTES, PayloadMemory
from triggers.push.store import Due

from .test_dispatcher import make_due, make_lane

OTHER = UUID(int=7)


def test_payloads_in_memory_have_a_bound_that_a_thousand_lanes_keep() -> None:
    told: list[LaneId] = []
    memory = PayloadMemory(told.append)
    size = READ_AHEAD_BYTES // 64
    taken: list[Due] = []
    lanes = [make_lane(uuid4() if n % 2 else OTHER, 0) for n in range(300)]
    for lane in lanes:
        due = make_due(lane.org_id, lane.id[1])
        due.payload_size = size
        taken += memory.take(lane, [due])
    assert memory._bytes == size * len(taken) == 2 * READ_AHEAD_BYTES, "one for each, up to twice the bound"
    assert told == []
    while memory._bytes >= READ_AHEAD_BYTES:
        memory.free(taken.pop())
    assert set(told) == {lane.id for lane in lanes[128:]}, "the others, once there is room"
