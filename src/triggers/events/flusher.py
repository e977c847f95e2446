"""Stores a batch of events in one commit, and answers each event with its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from triggers import errors, observability
from triggers.domain import OrgId
from triggers.events import store as event_store
from triggers.events.known_good import can_store_good_event
from triggers.events.matching import Finding, Judging
from triggers.events.store import Batch, Obstacle, Receipt, Resolution, Taken
from triggers.events.waiting_event import WaitingEvent
from triggers.fairness.pace import Steps, do_first
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import (
    PLAN_BY_INDEX,
    Connection,
    Database,
    is_data_error,
    is_unavailable,
    sqlstate_of,
)
from triggers.postgres.time_bounds import ACCEPT_SECONDS
from triggers.statistics.tally import Tally

log = structlog.get_logger()

REFUSAL_SECONDS = 10.0
"""How long the node is not ready after the database refused every event. Then it is ready again, because a
node that gets no events cannot find out that the database has been repaired."""
OBSTACLE_SECONDS = 1.0
"""How long later batches expect an obstacle that one batch met, because they are probably similar."""


class Flusher:
    """Stores batches, one after the other, on a connection of its own.

    The steps of a batch:

        taken ids looked up → stored → each event answered, or left over
          if the database refuses its data  → each half by itself, until the guilty event stands alone
          if it refuses every event's data  → each event answered with DatabaseUnavailable
          if the outcome is unknown         → repeated once; events that it did store are found by their ids
          if that fails too                 → each event answered with DatabaseUnavailable

    The obstacle that it expects: None → an obstacle that a batch met → None, OBSTACLE_SECONDS after it was
    last met. Only while it expects taken dedup_ids, it looks them up before it stores a batch. That costs
    less than always using `accept_some`, the statement that handles them.
    """

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        judging: Judging,
        *,
        dedup_window: timedelta,
        committed: Callable[[set[UUID], Receipt], None],
    ) -> None:
        """`committed` is called after each commit, with the organisations of the stored events."""
        self._database = database
        self._clock = clock
        self._judging = judging
        self._window = dedup_window
        self._committed = committed
        self.tally = Tally(clock.now)
        """Counts the events, for the statistics."""
        self._connection: Connection | None = None
        self._refusal = ""
        self._refused_until = 0.0  # monotonic
        self._obstacle: Obstacle | None = None
        self._expected_until = 0.0  # monotonic

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    @property
    def refusal(self) -> str:
        """Why the database refuses every event. Empty if it does not."""
        return self._refusal if time.monotonic() < self._refused_until else ""

    async def store(self, batch: list[WaitingEvent], *, again: bool = True) -> list[WaitingEvent]:
        """Store a batch. Every event is answered, except those that are returned: they are left over for a
        later batch, in their order. `again`: whether to repeat a batch whose outcome is unknown."""
        connection = self._connection
        try:
            if connection is None:
                connection = await self._database.connect(ACCEPT_SECONDS, PLAN_BY_INDEX)
                self._connection = connection
            if self._expects(Obstacle.STORED):
                batch = await self._answer_taken(connection, batch)
            return await self._flush(connection, batch) if batch else []
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            if connection is not None and is_data_error(error):
                if await can_store_good_event(connection, self._clock, self._window):
                    return await self._store_halves(batch, error)
                self._refused_until = time.monotonic() + REFUSAL_SECONDS
                self._refusal = f"the database refuses every event: {sqlstate_of(error)}"
                again = False
            self._connection = None
            if connection is not None:
                connection.terminate()
                if again and is_unavailable(error):
                    for waiting in batch:
                        waiting.wait_for_the_database()
                    return await self.store(batch, again=False)
            log.error("flush_failed", events=len(batch), error=repr(error))
            for waiting in batch:
                waiting.answer_all(errors.DatabaseUnavailable())
            return []

    async def _store_halves(self, batch: list[WaitingEvent], error: BaseException) -> list[WaitingEvent]:
        if len(batch) == 1:
            guilty = batch[0]
            log.warning("event_refused_by_database", event_id=str(guilty.event.id), error=repr(error))
            guilty.answer(errors.Invalid("The database refused to store this event."))
            return guilty.followers
        middle = len(batch) // 2
        left_over = await self.store(batch[:middle])
        if left_over:  # none may overtake those
            return left_over + batch[middle:]
        return await self.store(batch[middle:])

    async def _flush(self, connection: Connection, batch: list[WaitingEvent]) -> list[WaitingEvent]:
        """Store a batch, and answer it after its commit."""
        receipt = await event_store.accept(
            connection,
            self._clock,
            Batch(
                [w.event for w in batch],
                [w.judged.rules.version for w in batch],
                await do_first(_findings(batch)),
            ),
            self._window,
            all_first=not self._expects(Obstacle.TOO_MUCH),
        )
        observability.flushes_total.inc()
        self._refused_until = 0.0
        if receipt.obstacle is not None:
            self._expect(receipt.obstacle)
        if not receipt.missing:
            # Not at once: the next batch is on its way to PostgreSQL before these callers are answered.
            asyncio.get_running_loop().call_soon(self._tell, batch, set(), receipt)
            return []
        missing = set(receipt.missing)
        self._tell(batch, missing, receipt)
        return await self._explain(connection, [w for w in batch if w.event.id in missing])

    def _tell(self, batch: Sequence[WaitingEvent], missing: set[UUID], receipt: Receipt) -> None:
        """Answer those of a committed batch that are not missing."""
        stored = [w for w in batch if w.event.id not in missing] if missing else batch
        orgs: dict[OrgId, int] = {}
        for waiting in stored:
            org_id = waiting.event.org_id
            orgs[org_id] = orgs.get(org_id, 0) + 1
        try:
            self.tally.accept(orgs)
            self._committed(set(orgs), receipt)
        finally:
            for waiting in stored:
                if repeated := waiting.decide(waiting.event.id):
                    self.tally.repeat(waiting.event.org_id, repeated)

    # ---- what is not stored --------------------------------------------------------------------------

    async def _answer_taken(self, connection: Connection, batch: list[WaitingEvent]) -> list[WaitingEvent]:
        """Answer events whose dedup_id is taken; return the others."""
        taken = await event_store.taken(connection, [w.event for w in batch])
        if not taken:
            return batch
        self._expect(Obstacle.STORED)
        for waiting in batch:
            if (reason := taken.get(waiting.event.id)) is not None:
                self._decide(waiting, reason)
        return [w for w in batch if w.event.id not in taken]

    async def _explain(self, connection: Connection, missing: list[WaitingEvent]) -> list[WaitingEvent]:
        """Answer events that a flush did not store; return those that a later one may store."""
        found = await event_store.resolve(connection, [w.event for w in missing])
        left_over = []
        for waiting in missing:
            event = waiting.event
            reason = found[event.id]
            if reason.stored or reason.winner is not None:
                self._decide(waiting, reason)
            elif reason.version is None:
                waiting.answer_all(errors.NotFound("The organisation of this event does not exist."))
            else:  # judged by old rules, or over the bound of deliveries, or its dedup row has gone since
                if reason.version != waiting.judged.rules.version:
                    self._judging.outdated(event.org_id)
                left_over.append(waiting)
        return left_over

    def _decide(self, waiting: WaitingEvent, reason: Resolution | Taken) -> None:
        """Answer an event that is stored, or whose dedup_id is taken."""
        event = waiting.event
        if reason.stored and not waiting.answered:  # an earlier try stored it, and its result was unknown
            self.tally.accept({event.org_id: 1})
        winner = event.id if reason.stored or reason.winner is None else reason.winner
        self.tally.repeat(event.org_id, waiting.decide(winner, reason.fingerprint))

    # ---- what is expected ----------------------------------------------------------------------------

    def _expects(self, obstacle: Obstacle) -> bool:
        return self._obstacle is obstacle and time.monotonic() < self._expected_until

    def _expect(self, obstacle: Obstacle) -> None:
        self._obstacle, self._expected_until = obstacle, time.monotonic() + OBSTACLE_SECONDS


def _findings(batch: Sequence[WaitingEvent]) -> Steps[dict[str, Finding]]:
    """The findings about all events of a batch. A key is an event's id followed by a subscription's id."""
    found: dict[str, Finding] = {}
    for waiting in batch:
        if waiting.judged.findings:
            event_id = str(waiting.event.id)
            for subscription_id, finding in waiting.judged.findings.items():
                found[event_id + subscription_id] = finding
            yield
    return found
