"""Bounds the bytes of payloads in memory, over all lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final
from uuid import UUID

from triggers.domain import LaneId
from triggers.push.lane import Lane
from triggers.push.store import Due

READ_AHEAD_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of payloads in memory. An organisation may use a quarter of it. A lane without a delivery in
memory may exceed both limits by one delivery, unless all payloads together would exceed twice this size."""


class PayloadMemory:
    """Counts the payloads that wait or are in flight, by organisation."""

    def __init__(self, has_room: Callable[[LaneId], None]) -> None:
        """`has_room` is called with each lane that had no room for even one delivery, once there is room."""
        self._has_room = has_room
        self._bytes = 0
        self._bytes_of: Counter[UUID] = Counter()
        self._crowded_out: set[LaneId] = set()

    def take(self, lane: Lane, dues: list[Due]) -> list[Due]:
        """Reserve room for the first deliveries that fit, and return them. An empty lane may get one more."""
        for count, due in enumerate(dues):
            total = self._bytes + due.payload_size
            mine = self._bytes_of[lane.org_id] + due.payload_size
            full = total > READ_AHEAD_BYTES or mine > READ_AHEAD_BYTES // 4
            if full and (count or lane.ahead.known or total > 2 * READ_AHEAD_BYTES):
                if not count and not lane.ahead.known:
                    self._crowded_out.add(lane.id)
                return dues[:count]
            self._bytes, self._bytes_of[lane.org_id] = total, mine
        return dues

    def free(self, due: Due) -> None:
        """Give back the room of a payload that is not needed any more."""
        self._bytes -= due.payload_size
        left = self._bytes_of[due.org_id] - due.payload_size
        if left:
            self._bytes_of[due.org_id] = left
        else:
            del self._bytes_of[due.org_id]
        if self._crowded_out and self._bytes < READ_AHEAD_BYTES:
            crowded_out, self._crowded_out = self._crowded_out, set()
            for lane_id in crowded_out:
                self._has_room(lane_id)
