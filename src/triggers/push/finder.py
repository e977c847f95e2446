"""Finds lanes that have due deliveries, even if every hint was lost.

It runs concurrently with the reads, because counting newly due rows can take as long as reading them.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Final

from triggers.postgres.database import PLAN_ANEW, REQUEST_SECONDS, Connection, Database
from triggers.postgres.kept_connection import KeptConnection
from triggers.postgres.read_position import horizon
from triggers.push import store as lane_store
from triggers.push.lanes import Lanes
from triggers.push.ownership import Ownership

POLL_SECONDS: Final = 0.5
"""Interval between two looks for lanes with due deliveries."""
SWEEP_SECONDS: Final = 5.0
"""Interval between complete searches of one group, for due deliveries that nothing else has found."""


class Finder:
    """Searches the groups of this worker for lanes with due deliveries."""

    def __init__(self, database: Database, ownership: Ownership, lanes: Lanes) -> None:
        self._connection = KeptConnection(database, REQUEST_SECONDS, PLAN_ANEW)
        self._ownership = ownership
        self._lanes = lanes
        self._polled_at: datetime | None = None
        self._sweep_due = 0.0
        self._turn = 0
        self._new: set[int] = set()
        self._wake = asyncio.Event()

    def close(self) -> None:
        """Close its connection."""
        self._connection.drop()

    def sweep(self, groups: list[int]) -> None:
        """Search these groups completely and at once, because this worker has just gained them."""
        self._new.update(groups)
        self._wake.set()

    async def look(self) -> None:
        """Look once, then wait until it is time to look again.

        Raises:
            DatabaseUnavailable: nothing is lost; the next look finds it.
        """
        began = time.monotonic()
        self._wake.clear()
        if groups := self._ownership.groups:
            async with self._connection.use() as connection:
                await self._sweep(connection, groups)
                await self._poll(connection, groups)
        try:
            async with asyncio.timeout(max(0.0, began + POLL_SECONDS - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _poll(self, connection: Connection, groups: list[int]) -> None:
        now = await lane_store.now(connection)
        since = horizon(self._polled_at or now)
        for lane_id, rows in (await lane_store.due_lanes(connection, groups, since[0])).items():
            lane = self._lanes.get(lane_id)
            # Rows that are known already are no news, but what was handed over may hide as many others.
            if lane is None or lane.ahead.handed_over or lane.ahead.known_from(since) < rows:
                self._lanes.hint(lane_id)
        self._polled_at = now

    async def _sweep(self, connection: Connection, groups: list[int]) -> None:
        """Look through the groups that are new here, and now and then through the next one in turn."""
        sought = self._new.intersection(groups)
        if time.monotonic() >= self._sweep_due:
            self._sweep_due = time.monotonic() + SWEEP_SECONDS
            sought.add(groups[self._turn % len(groups)])
            self._turn += 1
        if not sought:
            return
        for lane_id in await lane_store.lanes_with_work(connection, sorted(sought)):
            self._lanes.hint(lane_id)
        self._new -= sought
