"""Deduplicates and stores events and creates their deliveries in one commit, as a 201 promises.

Concurrent callers share a transaction (group commit): events that come while a flush is under way
wait for the next one, and a single caller waits for nobody. Each event is answered after its own
commit, so a 2xx always means that it is stored.

`fair_queues.py` chooses the events of the next batch, and `flusher.py` stores and answers a batch.

If an organisation's subscriptions have payload filters or ordering pointers, its events are judged by them
on arrival. If these subscriptions change before an event is stored, the organisation's queue is set aside
until all its events are judged again (`rejudging.py`). Other organisations do not wait for that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from triggers import errors
from triggers.background import Background
from triggers.domain import NewEvent
from triggers.events import store as event_store
from triggers.events.fair_queues import FairQueues
from triggers.events.flusher import Flusher
from triggers.events.matching import Judged, Judging
from triggers.events.rejudging import Rejudging
from triggers.events.store import Receipt
from triggers.events.waiting_event import AcceptOutcome, WaitingEvent
from triggers.fairness.pace import breathe
from triggers.fairness.room import Room
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.statistics.tally import Tally

FLUSHER: Final = "flusher"
"""The task that stores events."""
MAX_WAIT_SECONDS = 10.0
"""An event that waits longer for its flush is answered with 503, so that its caller can try again."""

_TOO_LATE: Final = (
    "The event waited too long and was not stored; send it again, with the same dedup_id if it has one."
)
_STOPPING: Final = "The service is stopping; nothing was accepted."


class WaitingLimits(NamedTuple):
    """The maximum number and total size of events that wait to be stored and answered."""

    events: int
    payload_bytes: int

    @property
    def least_bytes(self) -> int:
        """The minimum size that each event counts as, so that at most `events` events fit."""
        return -(-self.payload_bytes // self.events)


class Acceptor:
    """Accepts events. Call `start` before the first event and `stop` after the last one.

    States: made → accepting → stopping (no new events are accepted, waiting ones are stored) → stopped. If a
    bug ends the task that stores events, all waiting events are answered with 503, and no new ones accepted.

    There is one flush at a time. A second one would halve the batches. It was not faster on two cores.
    """

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        *,
        dedup_window: float,
        limits: WaitingLimits,
        committed: Callable[[set[UUID], Receipt], None],
    ) -> None:
        """`dedup_window` is in seconds. `committed` is called after each commit, with the organisations of
        the stored events."""
        self.clock = clock
        self._database = database
        self._room = Room(limits.payload_bytes)
        self._least_bytes = limits.least_bytes
        self._judging = Judging(database)
        self._work = asyncio.Event()
        self._queues = FairQueues(self._judging.stands, self._judge_again)
        self._rejudging = Rejudging(self._judging, self._queues, self._least_bytes, self._work.set)
        self._flusher = Flusher(
            database,
            clock,
            self._judging,
            dedup_window=timedelta(seconds=dedup_window),
            committed=committed,
        )
        self.background = Background()
        self._stopping = False
        self._all_stored = asyncio.Event()

    async def start(self) -> None:
        """Learn the database's time and begin to store."""
        await event_store.learn_time(self._database, self.clock)
        self.background.start(self._judging.duty())
        self.background.run(FLUSHER, self._flush_batches())

    async def stop(self) -> None:
        """Store what is waiting, then end."""
        self._stopping = True
        try:
            if not self._queues.empty or not self._all_stored.is_set():
                self._all_stored.clear()
                self._work.set()
                await self.background.unless_ended(self._all_stored.wait())
        finally:
            self._rejudging.stop()
            await self.background.stop()
            await self._flusher.close()

    @property
    def tally(self) -> Tally:
        """The counts of events, for the statistics."""
        return self._flusher.tally

    @property
    def waiting(self) -> tuple[int, int]:
        """Events and bytes that wait for a flush."""
        return self._queues.events, self._queues.payload_bytes

    @property
    def trouble(self) -> dict[str, str]:
        """The background work that is in trouble, and whether the database refuses every event, by name."""
        refusal = self._flusher.refusal
        return ({FLUSHER: refusal} if refusal else {}) | self.background.trouble

    def accept(self, event: NewEvent) -> Awaitable[AcceptOutcome]:
        """Store one event. The outcome comes after the commit. It can be an error:

        DedupConflict: another event with other content has the dedup_id.
        Unavailable: it is not certain that the event is stored; try again.
        NotFound, Invalid: the organisation does not exist, or the database refuses the event's data.
        """
        judged = self._judging.judge_plain(event)
        return self._judge_and_enter(event) if judged is None else self._enter(event, judged)

    async def accept_many(self, events: Sequence[NewEvent]) -> list[AcceptOutcome]:
        """Store events; return the outcome of each, in order, when all are decided."""
        outcomes = []
        for event in events:
            # One after the other, so that they are stored in their order.
            outcomes.append(self._enter(event, await self._judging.judge_paced(event)))
            await breathe(event.org_id)
        return await asyncio.gather(*outcomes)

    async def _judge_and_enter(self, event: NewEvent) -> AcceptOutcome:
        return await self._enter(event, await self._judging.judge_payload(event))

    def _enter(self, event: NewEvent, judged: Judged) -> asyncio.Future[AcceptOutcome]:
        future: asyncio.Future[AcceptOutcome] = asyncio.get_running_loop().create_future()
        waiting = WaitingEvent(event, judged, future, self._room)
        if self._stopping:
            waiting.answer(errors.Unavailable(_STOPPING))
        elif not waiting.take_memory(self._least_bytes):
            waiting.answer(errors.Overloaded())
        else:
            self._queues.put(waiting)
            self._work.set()
        return future

    def _judge_again(self, org_id: UUID, queue: Sequence[WaitingEvent]) -> None:
        self._rejudging.begin(org_id, queue)

    async def _flush_batches(self) -> None:
        batch: list[WaitingEvent] = []
        try:
            while True:
                if not self._queues.any_in_turn:
                    if self._queues.empty:
                        self._all_stored.set()
                    self._work.clear()
                    await self._work.wait()
                    self._all_stored.clear()
                elif late := self._queues.take_late(time.monotonic() - MAX_WAIT_SECONDS):
                    for waiting in late:
                        waiting.answer(errors.Overloaded(_TOO_LATE))
                    await asyncio.sleep(0)  # sends the answers before there are more of them
                elif batch := self._queues.next_batch():
                    self._queues.put_back(await self._flusher.store(batch))
                    batch = []
        finally:
            self._refuse_all(batch)

    def _refuse_all(self, batch: Sequence[WaitingEvent]) -> None:
        """Answer every event after the flusher has ended, because none will be stored now. The events of the
        last batch may be stored already."""
        self._stopping = True
        self._rejudging.stop()
        for waiting in batch:
            waiting.answer_all(errors.Unavailable())
        for waiting in self._queues.take_all():
            waiting.answer(errors.Unavailable(_STOPPING))
