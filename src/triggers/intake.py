"""accept(): deduplicate, store and fan out in one commit — the promise of the 201.

Concurrent callers share a transaction (group commit): whoever comes while a flush is under way
waits for the next one, and a lone caller waits for nobody. Each is answered after its own
commit, so a 2xx always means stored.

Events are judged by their payloads where their organisation's subscriptions ask for it, when they
come in. If those have changed by the time an event is stored, all of that organisation's events
step aside, are judged again and come back in their order; nobody else waits for that.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from triggers import errors, observability
from triggers.domain import Accepted, NewEvent
from triggers.judging import Finding, Judged, Judging, Pace
from triggers.storage import event_store
from triggers.storage.clock import DatabaseClock
from triggers.storage.database import ACCEPT_SECONDS, Connection, Database, is_data_error, is_unavailable
from triggers.storage.lane_store import LaneId

log = structlog.get_logger()

FLUSH_ROWS = 512
FLUSH_BYTES = 4 * 1024 * 1024
FINDING_BYTES = 200
"""What a finding counts for beside payloads: a thousand filters are more than the event they judge."""
JUDGING_ROUNDS = 8
"""How often an event is judged again, before its sender is told to try later."""
FLUSHERS = 1
"""Flushes in flight. A second one gained nothing on two cores and halves the batches."""

Outcome = Accepted | errors.TriggersError


class Waiting:
    """An event on its way to its commit, and the future that its caller waits on."""

    __slots__ = ("event", "followers", "future", "judged", "rounds", "size")

    def __init__(self, event: NewEvent, judged: Judged, future: asyncio.Future[Outcome]) -> None:
        self.event = event
        self.judge(judged)
        self.future = future
        self.rounds = 0  # how often it was judged again
        self.followers: list[Waiting] = []  # of the same org and dedup_id, decided with this one

    def judge(self, judged: Judged) -> None:
        """Take in what it was found to be."""
        self.judged = judged
        self.size = len(self.event.payload) + FINDING_BYTES * len(judged.findings)


class Intake:
    """The way in. `start` before the first accept, `stop` after the last."""

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        *,
        dedup_window: float,
        max_events: int,
        max_bytes: int,
        committed: Callable[[set[UUID], Sequence[LaneId]], None],
    ) -> None:
        """`committed` is told, after each commit, the organisations and the lanes it stored events for."""
        self.clock = clock
        self._database = database
        self._window = timedelta(seconds=dedup_window)
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._committed = committed
        self._judging = Judging(database)
        self._queue: deque[Waiting] = deque()
        self._left_over: list[Waiting] = []  # of the batch at hand, for the next one
        self._aside: dict[UUID, deque[Waiting]] = {}  # being judged again; older than what is queued
        self._number_aside = 0
        self._waiting_bytes = 0
        self._waiting_by_org: Counter[UUID] = Counter()
        self._work = asyncio.Event()
        self._stopping = False
        self._flushers: list[asyncio.Task[None]] = []
        self._judges: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Learn the database's time and begin to store."""
        await event_store.learn_time(self._database, self.clock)
        await self._judging.start()
        self._flushers = [asyncio.create_task(self._run(), name=f"flusher {n}") for n in range(FLUSHERS)]

    async def stop(self) -> None:
        """Store what is waiting, then end."""
        self._stopping = True
        self._work.set()
        try:
            await asyncio.gather(*self._flushers)
        finally:
            for judge in self._judges:
                judge.cancel()
            await self._judging.stop()

    async def broken(self) -> None:
        """Return when a flusher has ended unasked, which only a bug of ours can bring about."""
        done, _ = await asyncio.wait(self._flushers, return_when=asyncio.FIRST_COMPLETED)
        for flusher in done:
            if not self._stopping and not flusher.cancelled():
                log.critical("flusher_ended", exc_info=flusher.exception())

    @property
    def waiting(self) -> tuple[int, int]:
        """Events and bytes that wait for a flush."""
        return len(self._queue) + self._number_aside, self._waiting_bytes

    def accept(self, event: NewEvent) -> asyncio.Future[Outcome]:
        """Have one event stored. Its outcome comes when it is committed, or else as an error:

        DedupConflict: its dedup_id names an event with other content.
        Overloaded, DatabaseUnavailable: it is not known to be stored; try again.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if (refusal := self._refusal(event)) is not None:
            future.set_result(refusal)
            return future
        waiting = Waiting(event, self._judging.judge(event), future)
        self._waiting_bytes += waiting.size
        self._waiting_by_org[event.org_id] += 1
        self._queue.append(waiting)
        self._work.set()
        return future

    async def accept_many(self, events: Sequence[NewEvent]) -> list[Outcome]:
        """Store events; return the outcome of each, in order, when all are decided."""
        pace = Pace()  # a thousand events with filters are seconds
        outcomes = []
        for event in events:
            outcomes.append(self.accept(event))
            await pace.breathe()
        return await asyncio.gather(*outcomes)

    # ---- the waiting room ------------------------------------------------------------------------

    def _refusal(self, event: NewEvent) -> errors.TriggersError | None:
        if self._stopping:
            return errors.Unavailable("The service is stopping; nothing was accepted.")
        waiting = len(self._queue) + self._number_aside
        if waiting >= self._max_events or self._waiting_bytes + len(event.payload) > self._max_bytes:
            return errors.Overloaded()
        mine = self._waiting_by_org[event.org_id]
        if mine > self._max_events // 4 and mine < waiting:
            # Nobody fills more than a quarter of the room while others wait in it.
            return errors.Overloaded("Too many events of this organisation are waiting to be stored.")
        return None

    def _take(self) -> list[Waiting]:
        """The next batch. Events that share a dedup_id with one of it are decided with that one."""
        batch: list[Waiting] = []
        leaders: dict[tuple[UUID, str], Waiting] = {}
        size = 0
        while self._queue and len(batch) < FLUSH_ROWS and size < FLUSH_BYTES:
            waiting = self._queue.popleft()
            event = waiting.event
            if event.org_id in self._aside or not self._judging.stands(event.org_id, waiting.judged):
                self._set_aside(waiting)
                continue
            size += waiting.size
            self._waiting_bytes -= waiting.size
            self._waiting_by_org[event.org_id] -= 1
            if event.dedup_id is not None:
                leader = leaders.setdefault((event.org_id, event.dedup_id), waiting)
                if leader is not waiting:
                    leader.followers.append(waiting)
                    continue
            batch.append(waiting)
        if not self._queue and not self._aside:
            self._waiting_by_org.clear()
        return batch

    def _return(self, returned: Sequence[Waiting]) -> None:
        """Put events back to the front, in their order and with their followers behind each."""
        for waiting in reversed(returned):
            for back in (*reversed(waiting.followers), waiting):
                self._queue.appendleft(back)
                self._waiting_bytes += back.size
                self._waiting_by_org[back.event.org_id] += 1
            waiting.followers = []

    # ---- judged again ----------------------------------------------------------------------------

    def _set_aside(self, waiting: Waiting) -> None:
        org_id = waiting.event.org_id
        if org_id not in self._aside:
            self._aside[org_id] = deque()
            judge = asyncio.create_task(self._judge_again(org_id), name=f"judge {org_id}")
            self._judges.add(judge)
            judge.add_done_callback(self._judges.discard)
        self._aside[org_id].append(waiting)
        self._number_aside += 1

    async def _judge_again(self, org_id: UUID) -> None:
        """Judge what is set aside, and what joins it meanwhile, and put all back in front of the queue."""
        aside = self._aside[org_id]
        judged: list[Waiting] = []
        refusal: errors.TriggersError | None = None
        try:
            await self._judging.refresh(org_id)
            pace = Pace()
            while aside:
                waiting = aside.popleft()
                judged.append(waiting)
                self._waiting_bytes -= waiting.size
                waiting.judge(self._judging.judge(waiting.event))
                self._waiting_bytes += waiting.size
                waiting.rounds += 1
                await pace.breathe()
        except errors.TriggersError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            log.error("judging_failed", org_id=str(org_id), error=repr(error))
            refusal = errors.DatabaseUnavailable()
        del self._aside[org_id]
        # In the order of arrival, which is that of their ids: some may have joined behind younger ones.
        for waiting in sorted([*judged, *aside], key=lambda each: each.event.id, reverse=True):
            self._number_aside -= 1
            if refusal is None and waiting.rounds <= JUDGING_ROUNDS:
                self._queue.appendleft(waiting)
            else:
                self._waiting_bytes -= waiting.size
                self._waiting_by_org[org_id] -= 1
                _answer(waiting, refusal or errors.Unavailable("Subscriptions are changing; try again."))
        self._work.set()

    # ---- the flush -------------------------------------------------------------------------------

    async def _run(self) -> None:
        connection: Connection | None = None
        while self._queue or self._aside or not self._stopping:
            if not self._queue:
                self._work.clear()
                await self._work.wait()
                continue
            if batch := self._take():
                connection = await self._store(connection, batch, again=True)
                self._return(self._left_over)
                self._left_over = []
        if connection is not None:
            await connection.close()

    async def _store(
        self, connection: Connection | None, batch: list[Waiting], *, again: bool
    ) -> Connection | None:
        """Decide every event of a batch, whatever happens; return a connection that can be used.

        A statement that fails for its data is split until the guilty event stands alone. One whose
        outcome is unknown is repeated once: what it stored is then found under its own ids.
        """
        try:
            if connection is None:
                connection = await self._database.connect(ACCEPT_SECONDS)
            await self._flush(connection, batch)
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            if is_data_error(error):
                if len(batch) == 1:
                    self._refuse(batch[0], error)
                    return connection
                middle = len(batch) // 2
                connection = await self._store(connection, batch[:middle], again=True)
                return await self._store(connection, batch[middle:], again=True)
            if connection is not None:
                connection.terminate()
            if again and connection is not None and is_unavailable(error):
                return await self._store(None, batch, again=False)
            log.error("flush_failed", events=len(batch), error=repr(error))
            for waiting in batch:
                _settle(waiting, errors.DatabaseUnavailable())
            return None
        return connection

    async def _flush(self, connection: Connection, batch: list[Waiting]) -> None:
        receipt = await event_store.accept(
            connection,
            self.clock,
            [w.event for w in batch],
            self._window,
            [w.judged.rules.version for w in batch],
            _findings(batch),
        )
        missing = set(receipt.missing)
        observability.flushes_total.inc()
        self._committed({w.event.org_id for w in batch}, receipt.lanes)
        for waiting in batch:
            if waiting.event.id not in missing:
                _decide(waiting, waiting.event.id)
        if missing:
            await self._explain(connection, [w for w in batch if w.event.id in missing])

    async def _explain(self, connection: Connection, missing: list[Waiting]) -> None:
        """Decide the events that a flush did not store."""
        found = await event_store.resolve(connection, [w.event for w in missing])
        for waiting in missing:
            event = waiting.event
            reason = found[event.id]
            if reason.stored:
                _decide(waiting, event.id)
            elif reason.winner is not None:
                _decide(waiting, reason.winner, reason.fingerprint)
            elif reason.version is None:
                _settle(waiting, errors.NotFound("The organisation of this event does not exist."))
            else:  # judged by old rules, or over the bound of deliveries, or its dedup row has gone since
                if reason.version != waiting.judged.rules.version:
                    self._judging.outdated(event.org_id)
                self._left_over.append(waiting)

    def _refuse(self, guilty: Waiting, error: BaseException) -> None:
        log.warning("event_refused_by_database", event_id=str(guilty.event.id), error=repr(error))
        _answer(guilty, errors.Invalid("The database refused to store this event."))
        self._left_over.extend(guilty.followers)


def _findings(batch: list[Waiting]) -> dict[str, Finding]:
    """What was found out about all events of a batch, under an event's and a subscription's id in one."""
    return {
        f"{waiting.event.id}{subscription_id}": finding
        for waiting in batch
        if waiting.judged.findings
        for subscription_id, finding in waiting.judged.findings.items()
    }


def _decide(waiting: Waiting, winner: UUID, fingerprint: bytes | None = None) -> None:
    """Answer an event and its followers, given which event has their dedup_id, and its fingerprint
    unless it is that event itself."""
    for each in (waiting, *waiting.followers):
        if each.event.id == winner:
            _answer(each, Accepted(winner, False))
        elif each.event.fingerprint == (fingerprint or waiting.event.fingerprint):
            _answer(each, Accepted(winner, True))
        else:
            _answer(each, errors.DedupConflict(original_id=str(winner)))


def _settle(waiting: Waiting, outcome: Outcome) -> None:
    for each in (waiting, *waiting.followers):
        _answer(each, outcome)


def _answer(waiting: Waiting, outcome: Outcome) -> None:
    if not waiting.future.done():  # its caller may have gone
        waiting.future.set_result(outcome)
