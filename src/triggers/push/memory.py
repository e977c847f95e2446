"""How many bytes of payloads may wait in memory, of all lanes together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final
from uuid import UUID

from triggers.domain import LaneId
from triggers.push.lane import Lane
from triggers.push.store import Due

READ_AHEAD_BYTES: Final = 64 * 1024 * 1024
"""Payloads in memory, of which an organisation may fill a quarter. A lane that has nothing may go beyond it
for one delivery, until all of them have twice that."""


class PayloadMemory:
    """Counts the payloads that wait or are in flight, by organisation."""

    def __init__(self, has_room: Callable[[LaneId], None]) -> None:
        """`has_room` is told of each lane that found no room for a single delivery, once there is some."""
        self._has_room = has_room
        self._bytes = 0
        self._bytes_of: Counter[UUID] = Counter()
        self._crowded_out: set[LaneId] = set()

    def take(self, lane: Lane, dues: list[Due]) -> list[Due]:
        """Take room for as many of the first as fit, and return those. For a lane that has none, one fits."""
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
        self._bytes_of[due.org_id] -= due.payload_size
        if not self._bytes_of[due.org_id]:
            del self._bytes_of[due.org_id]
        if self._crowded_out and self._bytes < READ_AHEAD_BYTES:
            crowded_out, self._crowded_out = self._crowded_out, set()
            for lane_id in crowded_out:
                self._has_room(lane_id)
