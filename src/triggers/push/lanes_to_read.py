"""Chooses the lanes that are read next. Organisations take turns."""

from __future__ import annotations

import asyncio

from triggers.domain import LaneId
from triggers.fairness.room import Line


class LanesToRead:
    """Lanes that may have something to read, each once, in the order in which they came.

    An organisation with a thousand lanes does not keep others out of the next read.
    """

    def __init__(self) -> None:
        self._line: Line[LaneId] = Line()
        self._some = asyncio.Event()

    def add(self, lane_id: LaneId) -> None:
        """This lane may have something to read."""
        self._line.add(lane_id[0], lane_id)
        self._some.set()

    async def wait(self) -> None:
        """Return when there are any."""
        if not self._line:
            self._some.clear()
            await self._some.wait()

    def take(self, most: int) -> list[LaneId]:
        """Take the next lanes, at most `most` of them."""
        taken: list[LaneId] = []
        while len(taken) < most and (found := self._line.next()) is not None:
            taken.append(found[1])
        return taken
