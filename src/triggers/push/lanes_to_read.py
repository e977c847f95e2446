"""Chooses the lanes that are read next. Organisations take turns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from uuid import UUID

from triggers.domain import LaneId


class LanesToRead:
    """Lanes that may have something to read, each once, in the order in which they came.

    An organisation with a thousand lanes does not keep others out of the next read.
    """

    def __init__(self) -> None:
        self._by_org: OrderedDict[UUID, deque[LaneId]] = OrderedDict()
        self._waiting: set[LaneId] = set()
        self._some = asyncio.Event()

    def add(self, lane_id: LaneId) -> None:
        """This lane may have something to read."""
        if lane_id not in self._waiting:
            self._waiting.add(lane_id)
            self._by_org.setdefault(lane_id[0], deque()).append(lane_id)
            self._some.set()

    async def wait(self) -> None:
        """Return when there are any."""
        if not self._by_org:
            self._some.clear()
            await self._some.wait()

    def take(self, most: int) -> list[LaneId]:
        """Take the next lanes, at most `most` of them."""
        taken: list[LaneId] = []
        while self._by_org and len(taken) < most:
            org_id, lanes = self._by_org.popitem(last=False)
            taken.append(lanes.popleft())
            if lanes:
                self._by_org[org_id] = lanes
        self._waiting.difference_update(taken)
        return taken
