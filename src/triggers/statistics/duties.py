"""Background work of statistics: each process writes its counts, and one node does the rest for all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from triggers.background import Duty
from triggers.errors import TriggersError
from triggers.fairness.pace import do
from triggers.postgres.database import Database
from triggers.statistics import store
from triggers.statistics.tally import WHOLE, Row, Tally

log = structlog.get_logger()

FLUSH_SECONDS: Final = 8.0
"""Interval of flushes. Duties vary their intervals, so at most ten seconds pass between two flushes."""
FINISH_SECONDS: Final = 2.0
SAMPLE_SECONDS: Final = 15.0
"""Interval at which each node asks whether a node samples the backlogs of the current minute already."""


class Flush:
    """Writes the tally of one process. The same rows are written again until the database confirms them."""

    def __init__(self, database: Database, tally: Tally) -> None:
        self._database = database
        self._tally = tally
        self._process_id = uuid4()

    def duty(self) -> Duty:
        """Return the flush as a duty with its interval."""
        return Duty("statistics", FLUSH_SECONDS, self.write)

    async def write(self) -> bool:
        """Write at most a thousand rows. Returns whether rows of minutes that are over are left."""
        rows, more = await do(self._tally.next_rows(), None)
        await self._write(rows)
        return more

    async def finish(self) -> None:
        """Write all remaining rows, but do not wait long for a database that does not answer."""
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
        self._minute: datetime | None = None  # the minute whose backlogs this node samples
        self._after = WHOLE

    def duties(self) -> list[Duty]:
        """Return these duties with their intervals."""
        return [
            Duty("statistics by hour", 60, self.make_hour),
            Duty("backlog samples", SAMPLE_SECONDS, self.sample),
            Duty("old statistics", 3600, self.drop_old),
        ]

    async def make_hour(self) -> bool:
        """Make the rows of the next past hour."""
        return await store.make_hour(self._database)

    async def sample(self) -> bool:
        """Sample the backlogs of some organisations. Return whether this node has to sample more of them."""
        if self._minute is None:
            self._minute, self._after = await store.claim_minute(self._database), WHOLE
        if self._minute is None:
            return False
        minute, self._minute = self._minute, None  # if this fails, the rest of the minute is not sampled
        last = await store.sample_backlogs(self._database, minute, self._after)
        if last is not None:
            self._minute, self._after = minute, last
        return last is not None

    async def drop_old(self) -> bool:
        """Drop old partitions."""
        for name in await store.drop_old(self._database):
            log.info("partition_dropped", name=name)
        return False
