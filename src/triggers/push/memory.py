"""Bounds the bytes of payloads in memory, over all lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from triggers.domain import LaneId
from triggers.fairness.room import Line, Room
from triggers.push.lane import Lane
from triggers.push.store import Due

READ_AHEAD_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of payloads in memory. If this is used up, a lane without a payload in memory may get one from
a second room of the same size. Organisations share both rooms as `Room` says."""


class PayloadMemory:
    """Counts the payloads that wait or are in flight, by organisation."""

    def __init__(self, has_room: Callable[[LaneId], None]) -> None:
        """`has_room` is called with each lane that had no room for even one delivery, once there may be room
        for one. If a lane then gets none, it waits again."""
        self._has_room = has_room
        self._room = Room(READ_AHEAD_BYTES)
        self._room_of_only_ones = Room(READ_AHEAD_BYTES)
        self._only_ones: set[tuple[UUID, UUID]] = set()
        self._crowded_out: Line[LaneId] = Line()

    def take(self, lane: Lane, dues: list[Due]) -> list[Due]:
        """Reserve room for the first deliveries that fit, and return them. An empty lane may get one more."""
        for count, due in enumerate(dues):
            if self._room.take(lane.org_id, due.payload_size):
                continue
            if count or lane.ahead.known:
                return dues[:count]
            if not self._room_of_only_ones.take(lane.org_id, due.payload_size):
                self._crowded_out.add(lane.org_id, lane.id)
                return []
            self._only_ones.add((due.subscription_id, due.event_id))
            return dues[:1]
        return dues

    def free(self, due: Due) -> None:
        """Give back the room of a payload that is not needed any more."""
        room = self._room
        if self._only_ones and (key := (due.subscription_id, due.event_id)) in self._only_ones:
            self._only_ones.discard(key)
            room = self._room_of_only_ones
        room.give_back(due.org_id, due.payload_size)
        if self._crowded_out:
            self._let_in(due.payload_size)

    def _let_in(self, freed: int) -> None:
        """Tell one lane that there is room, or all lanes once more than half of the room is free."""

        def may(org_id: UUID) -> bool:
            return self._room.has_room(org_id, freed) or self._room_of_only_ones.has_room(org_id, freed)

        everyone = self._room.taken < self._room.capacity // 2
        while (found := self._crowded_out.next(may)) is not None:
            self._has_room(found[1])
            if not everyone:
                return
