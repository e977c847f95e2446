"""Background work of statistics: writing what a process counted, and what one node does for all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import structlog

from triggers.background import Duty
from triggers.errors import TriggersError
from triggers.pace import do
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.statistics import store
from triggers.statistics.tally import WHOLE, Row, Tally

log = structlog.get_logger()

FLUSH_SECONDS: Final = 8.0
"""With the spread of duties, at most ten seconds pass between two flushes."""
FINISH_SECONDS: Final = 2.0
SAMPLE_SECONDS: Final = 15.0
"""How often a node asks whether the backlogs of the current minute are sampled. One node samples them."""


class Flush:
    """Writes the tally of one process. The same rows are written again until the database confirms them."""

    def __init__(self, database: Database, clock: DatabaseClock, tally: Tally) -> None:
        self._database = database
        self._tally = tally
        self._process_id = clock.mint()

    def duty(self) -> Duty:
        """What to do, and how often."""
        return Duty("statistics", FLUSH_SECONDS, self.write)

    async def write(self) -> bool:
        """Write at most a thousand rows. Returns whether rows of minutes that are over are left."""
        rows, more = await do(self._tally.next_rows(), None)
        await self._write(rows)
        return more

    async def finish(self) -> None:
        """Write what is left, but do not wait for a database that does not answer."""
        with contextlib.suppress(TriggersError, TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                while rows := (await do(self._tally.next_rows(), None))[0]:
                    await self._write(rows)

    async def _write(self, rows: Sequence[Row]) -> None:
        await store.write(self._database, self._process_id, rows)
        self._tally.note_written(rows)


class Upkeep:
    """Makes the rows of hours, samples backlogs and drops old partitions, on one node for all nodes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._minute: datetime | None = None  # whose backlogs this node is sampling
        self._after = WHOLE

    def duties(self) -> list[Duty]:
        """What to do, and how often."""
        return [
            Duty("statistics by hour", 60, self.make_hour),
            Duty("backlog samples", SAMPLE_SECONDS, self.sample),
            Duty("old statistics", 3600, self.drop_old),
        ]

    async def make_hour(self) -> bool:
        """Make the rows of an hour that is over."""
        return await store.make_hour(self._database)

    async def sample(self) -> bool:
        """Sample the backlogs of some organisations. Returns whether this node has more of them to sample."""
        if self._minute is None:
            self._minute, self._after = await store.claim_minute(self._database), WHOLE
        if self._minute is None:
            return False
        minute, self._minute = self._minute, None  # if this fails, the rest of the minute is given up
        last = await store.sample_backlogs(self._database, minute, self._after)
        if last is not None:
            self._minute, self._after = minute, last
        return last is not None

    async def drop_old(self) -> bool:
        """Drop old partitions."""
        for name in await store.drop_old(self._database):
            log.info("partition_dropped", name=name)
        return False
