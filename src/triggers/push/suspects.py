"""Deliveries that may have killed a worker: which they are, and counting them before they are sent.

When a worker is lost, nobody knows which of its deliveries were under way. The owner that comes after it
counts an attempt of each that may have been, in the database and before it sends it. So a delivery that
kills every worker uses up its schedule and ends as a dead letter. On probation everything is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Sequence
from enum import Enum
from typing import Final
from uuid import UUID

import structlog

from triggers.domain import LaneId
from triggers.errors import DatabaseUnavailable
from triggers.postgres.database import PLAN_ONCE, Database
from triggers.postgres.kept_connection import KeptConnection
from triggers.push import store as lane_store
from triggers.push.store import Begin, Due, Group

log = structlog.get_logger()

FIRST: Final = 1_000
"""Of a lane at most so many are suspects after a death: no lane has more under way, and the first that
were due are under way first."""
BATCH: Final = 500
COUNT_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 10.0
"""How long the connection stays open while there is nothing to count."""


class Suspicion:
    """Which deliveries are suspects. Values in, values out."""

    def __init__(self) -> None:
        self._chosen: dict[int, tuple[UUID, Counter[LaneId]]] = {}  # by group, for the token it has

    def choose(self, group: Group, lane_id: LaneId, dues: Sequence[Due]) -> tuple[bool, int]:
        """Whether deliveries that go in one request are to be counted, and how many of them are now among
        the first of their lane."""
        lost = any(due.lost for due in dues)
        until = group.suspects_until
        if until is None:
            return lost, 0
        old = sum(due.due_at <= until and not due.lost for due in dues)
        if not old:
            return lost, 0
        chosen = self._of(group)
        taken = min(old, FIRST - chosen[lane_id])
        chosen[lane_id] += taken
        return lost or taken > 0, taken

    def give_back(self, group: Group, lane_id: LaneId, number: int) -> None:
        """So many that were chosen have not been counted: they, or others for them, are chosen again."""
        token, chosen = self._chosen.get(group.id, (None, None))
        if chosen is not None and token == group.token:
            chosen[lane_id] -= number

    def _of(self, group: Group) -> Counter[LaneId]:
        token, chosen = self._chosen.get(group.id, (None, None))
        if chosen is None or token != group.token:
            chosen = Counter()
            self._chosen[group.id] = group.token, chosen
        return chosen


class Counted(Enum):
    """What became of an attempt that was to be counted."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """The connection was lost before the answer."""


class Suspects:
    """Counts attempts in batches: whatever comes while one statement is under way goes with the next."""

    def __init__(self, database: Database) -> None:
        self.suspicion = Suspicion()
        self._connection = KeptConnection(database, COUNT_SECONDS, PLAN_ONCE)
        self._waiting: deque[tuple[Begin, asyncio.Future[Counted]]] = deque()
        self._work = asyncio.Event()

    async def count(self, begins: Sequence[Begin]) -> list[Counted]:
        """Count these attempts; return what became of each."""
        answers: list[asyncio.Future[Counted]] = [asyncio.get_running_loop().create_future() for _ in begins]
        self._waiting.extend(zip(begins, answers, strict=True))
        self._work.set()
        return await asyncio.gather(*answers)

    async def run(self) -> None:
        """Count whatever comes, for ever."""
        try:
            while True:
                if not self._waiting:
                    await self._rest()
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                counted = await self._count([begin for begin, _ in batch])
                for (_, answer), each in zip(batch, counted, strict=True):
                    if not answer.done():
                        answer.set_result(each)
        finally:
            self._connection.drop()

    async def _rest(self) -> None:
        """Wait for something to count. Most workers never have anything, and keep no connection for it."""
        self._work.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_SECONDS):
                await self._work.wait()
                return
        self._connection.drop()
        await self._work.wait()

    async def _count(self, batch: list[Begin]) -> list[Counted]:
        known = Counted.NO
        try:
            async with self._connection.use() as connection:
                known = Counted.UNKNOWN
                counted = await lane_store.begin_attempts(connection, batch)
        except DatabaseUnavailable as error:
            log.warning("count_failed", attempts=len(batch), error=repr(error.__cause__))
            return [known] * len(batch)
        return [Counted.YES if place in counted else Counted.NO for place in range(len(batch))]
