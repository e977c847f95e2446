"""How many bytes of payloads wait in memory."""

from __future__ import annotations

from uuid import UUID, uuid4

from triggers.domain import LaneId
from triggers.push.lane import Lane
from triggers.push.memory import READ_AHEAD_BYTES, PayloadMemory
from triggers.push.store import Due

from .test_dispatcher import make_due, make_lane

OTHER = UUID(int=7)


def offer(memory: PayloadMemory, org_id: UUID, size: int) -> tuple[Lane, list[Due]]:
    """Offer a delivery of this size in a lane of its own. Returns the lane and the deliveries that fit."""
    lane = make_lane(org_id, 0)
    due = make_due(org_id, lane.id[1])
    due.payload_size = size
    return lane, memory.take(lane, [due])


def test_a_thousand_lanes_of_one_organisation_leave_room_for_the_lanes_of_others() -> None:
    told: list[LaneId] = []
    memory = PayloadMemory(told.append)
    size = READ_AHEAD_BYTES // 64
    offered = [offer(memory, OTHER, size) for _ in range(1_000)]
    assert all(taken for _, taken in offered[:64]), "half of the room, and half of that of only ones"
    assert not any(taken for _, taken in offered[64:])
    newcomers = [offer(memory, uuid4(), size) for _ in range(64)]
    assert all(taken for _, taken in newcomers)
    assert told == []


def test_lanes_that_found_no_room_are_told_when_there_is_some_organisations_in_turn() -> None:
    told: list[LaneId] = []
    memory = PayloadMemory(told.append)
    size = READ_AHEAD_BYTES // 64
    taken = [due for _ in range(1_000) for due in offer(memory, uuid4(), size)[1]]
    assert len(taken) == 128, "twice the bound, if each is the only one of its lane"
    crowded = [offer(memory, org_id, size)[0].id for org_id in (OTHER, OTHER, UUID(int=8))]
    told.clear()
    left = {*crowded}
    for due in reversed(taken):
        memory.free(due)
        left -= {*told}
    assert not left
    assert told.index(crowded[2]) < told.index(crowded[1]), "each organisation in its turn"
    assert memory._room.taken == memory._room_of_only_ones.taken == 0
    assert not memory._only_ones
    assert not memory._crowded_out


def test_a_lane_is_told_of_room_also_while_there_is_none_for_only_ones() -> None:
    told: list[LaneId] = []
    memory = PayloadMemory(told.append)
    size = READ_AHEAD_BYTES // 4
    ordinary = offer(memory, OTHER, size)[1] + offer(memory, OTHER, size)[1]
    only_ones = offer(memory, OTHER, size)[1] + offer(memory, OTHER, size)[1]
    crowded, taken = offer(memory, OTHER, size)
    assert (len(ordinary), len(only_ones), taken) == (2, 2, [])
    memory.free(ordinary[0])
    assert told == [crowded.id]


def test_what_is_read_ahead_is_shared() -> None:
    """A lane with a payload in memory takes no more than the share of its organisation."""
    memory = PayloadMemory(lambda _: None)
    for share in (2, 4, 8):
        lane = make_lane(uuid4(), 1)
        dues = [make_due(lane.org_id, lane.id[1]) for _ in range(64)]
        for due in dues:
            due.payload_size = READ_AHEAD_BYTES // 64
        assert len(memory.take(lane, dues)) == 64 // share
