"""Finds deliveries that may have killed a worker, and counts their attempts before they are sent.

When a worker dies, it is unknown which of its deliveries were under way. For each one that may have been,
the next owner counts the attempt in the database before it sends the delivery. So a delivery that kills
every worker uses up its schedule and ends as a dead letter. On probation every attempt is counted.
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
"""Maximum number of suspects of a lane after a death. No lane has more deliveries under way, and those that
were due first are under way first."""
BATCH: Final = 500
COUNT_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 10.0
"""Time for which the connection stays open while there is nothing to count."""


class Suspicion:
    """Decides which deliveries are suspects. It does no I/O."""

    def __init__(self) -> None:
        self._chosen: dict[int, tuple[UUID, Counter[LaneId]]] = {}  # by group, for the token it has

    def choose(self, group: Group, lane_id: LaneId, dues: Sequence[Due]) -> tuple[bool, int]:
        """Whether the deliveries of one request must be counted, and how many of them were chosen as the
        first FIRST of their lane."""
        until = group.suspects_until
        lost, old = False, 0
        for due in dues:
            if due.lost:
                lost = True
            elif until is not None and due.due_at <= until:
                old += 1
        if not old:
            return lost, 0
        chosen = self._of(group)
        taken = min(old, FIRST - chosen[lane_id])
        chosen[lane_id] += taken
        return lost or taken > 0, taken

    def give_back(self, group: Group, lane_id: LaneId, number: int) -> None:
        """`number` chosen deliveries were not counted, so as many can be chosen again."""
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
    """Whether an attempt was counted."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """The connection was lost before the answer."""


class Suspects:
    """Counts attempts in batches: those that arrive during a statement are counted by the next one."""

    def __init__(self, database: Database) -> None:
        self.suspicion = Suspicion()
        self._connection = KeptConnection(database, COUNT_SECONDS, PLAN_ONCE)
        self._waiting: deque[tuple[Begin, asyncio.Future[Counted]]] = deque()
        self._work = asyncio.Event()

    async def count(self, begins: Sequence[Begin]) -> list[Counted]:
        """Count these attempts; return the result of each."""
        answers: list[asyncio.Future[Counted]] = [asyncio.get_running_loop().create_future() for _ in begins]
        self._waiting.extend(zip(begins, answers, strict=True))
        self._work.set()
        return await asyncio.gather(*answers)

    async def run(self) -> None:
        """Count attempts as they come, until the worker stops."""
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
