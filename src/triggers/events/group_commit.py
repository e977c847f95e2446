"""accept(): deduplicate, store and fan out in one commit — the promise of the 201.

Concurrent callers share a transaction (group commit): whoever comes while a flush is under way
waits for the next one, and a lone caller waits for nobody. Each is answered after its own
commit, so a 2xx always means stored.

Each organisation has a queue of its own, and they take turns, an event at a time: whatever one of
them has waiting, the next flush has the first events of the others.

Events are judged by their payloads where their organisation's subscriptions ask for it, when they
come in. If those have changed by the time an event is stored, that organisation's queue steps aside
until all in it are judged again; nobody else waits for that.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from triggers import errors, observability
from triggers.domain import Accepted, NewEvent
from triggers.events import store as event_store
from triggers.events.handover import Handover
from triggers.events.matching import Finding, Judged, Judging
from triggers.events.store import Care
from triggers.pace import Pace, Steps, do
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import (
    Connection,
    Database,
    is_data_error,
    is_unavailable,
)
from triggers.postgres.time_bounds import ACCEPT_SECONDS
from triggers.room import Room

log = structlog.get_logger()

FLUSH_ROWS = 512
FLUSH_BYTES = 512 * 1024
"""All wait for the flush under way: with more, large events keep small ones of others waiting."""
FLUSH_ROWS_OF_FEW = 32
"""The same where no more than twice as many wait. Those are about as many callers, most of all there are: if
all were stored at once, nobody would be left to be answered and to ask again meanwhile."""
CAREFUL_SECONDS = 1.0
"""How long batches are stored with the care that one of them needed: the next ones are likely alike."""
FINDING_BYTES = 200
"""What a finding counts for beside payloads: a thousand filters are more than the event they judge."""
JUDGING_ROUNDS = 8
"""How often an event is judged again, before its sender is told to try later."""
MAX_WAIT_SECONDS = 10.0
"""How long an event waits for its flush to begin: by then its caller has gone, or should be told."""
FLUSHERS = 1
"""Flushes in flight. A second one gained nothing on two cores and halves the batches."""

_TOO_LATE = (
    "The event waited too long and was not stored; send it again, with the same dedup_id if it has one."
)

Outcome = Accepted | errors.TriggersError


class Waiting:
    """An event on its way to its commit, and the future that its caller waits on."""

    __slots__ = ("answered", "event", "followers", "future", "judged", "room", "rounds", "since", "size")

    def __init__(self, event: NewEvent, judged: Judged, future: asyncio.Future[Outcome]) -> None:
        self.event = event
        self.judge(judged)
        self.future = future
        self.since = time.monotonic()
        self.answered = False
        self.room = 0  # bytes that it holds of the waiting room
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
        committed: Callable[[set[UUID], Handover], None],
    ) -> None:
        """`committed` is told, after each commit, of which organisations it stored events, and is given
        what of it is to be pushed."""
        self.clock = clock
        self._database = database
        self._window = timedelta(seconds=dedup_window)
        # What is held until it is answered; below, what waits for its flush to begin. Each event takes at
        # least so much room that no more than `max_events` fit.
        self._room = Room(max_bytes)
        self._least_size = -(-max_bytes // max_events)
        self._committed = committed
        self._judging = Judging(database)
        # Of each organisation that has events waiting, in turn; none is empty.
        self._queues: OrderedDict[UUID, deque[Waiting]] = OrderedDict()
        self._aside: dict[UUID, deque[Waiting]] = {}  # likewise, but they are being judged again
        self._left_over: list[Waiting] = []  # of the batch at hand, for a later one
        self._crowding: dict[UUID, None] = {}  # organisations of which something was left over, in turn
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._care = Care.NONE
        self._careful_until = 0.0  # monotonic
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
        return self._waiting_events, self._waiting_bytes

    def accept(self, event: NewEvent) -> Awaitable[Outcome]:
        """Have one event stored. Its outcome comes when it is committed, or else as an error:

        DedupConflict: its dedup_id names an event with other content.
        Unavailable: it is not known to be stored; try again.
        NotFound, Invalid: its organisation is gone, or the database refuses what it holds.
        """
        judged = self._judging.judge_plain(event)
        return self._judge_and_enter(event) if judged is None else self._enter(event, judged)

    async def accept_many(self, events: Sequence[NewEvent]) -> list[Outcome]:
        """Store events; return the outcome of each, in order, when all are decided."""
        pace = Pace()  # a thousand events with filters are seconds
        outcomes = []
        for event in events:
            # One after the other, so that they are stored in their order.
            outcomes.append(self._enter(event, await self._judging.judge_paced(event)))
            await pace.breathe()
        return await asyncio.gather(*outcomes)

    async def _judge_and_enter(self, event: NewEvent) -> Outcome:
        return await self._enter(event, await self._judging.judge_paced(event))

    # ---- the waiting room ------------------------------------------------------------------------

    def _enter(self, event: NewEvent, judged: Judged) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting = Waiting(event, judged, future)
        if self._stopping:
            future.set_result(errors.Unavailable("The service is stopping; nothing was accepted."))
        elif not self._has_room(waiting):
            future.set_result(errors.Overloaded())
        else:
            if queue := self._queues.get(event.org_id) or self._aside.get(event.org_id):
                queue.append(waiting)
            else:
                self._queues[event.org_id] = deque((waiting,))
            self._waiting_events += 1
            self._waiting_bytes += waiting.size
            self._work.set()
        return future

    def _has_room(self, waiting: Waiting) -> bool:
        """Take room for an event, until it is answered."""
        waiting.room = max(waiting.size, self._least_size)
        return self._room.take(waiting.event.org_id, waiting.room)

    def _take(self) -> list[Waiting]:
        """The next batch. Events that share a dedup_id with one of it are decided with that one."""
        batch: list[Waiting] = []
        sitting_out = self._sit_out()
        leaders: dict[tuple[UUID, str], Waiting] = {}
        size = 0
        most = FLUSH_ROWS_OF_FEW if self._waiting_events <= 2 * FLUSH_ROWS_OF_FEW else FLUSH_ROWS
        while self._queues and len(batch) < most and size < FLUSH_BYTES:
            org_id, queue = self._queues.popitem(last=False)
            if not self._judging.stands(org_id, queue[0].judged):
                self._set_aside(org_id, queue)
                continue
            waiting = queue.popleft()
            if queue:
                self._queues[org_id] = queue
            size += waiting.size
            self._waiting_events -= 1
            self._waiting_bytes -= waiting.size
            if (dedup_id := waiting.event.dedup_id) is not None:
                leader = leaders.setdefault((org_id, dedup_id), waiting)
                if leader is not waiting:
                    leader.followers.append(waiting)
                    continue
            batch.append(waiting)
        for org_id, queue in reversed(sitting_out):
            self._queues[org_id] = queue
            self._queues.move_to_end(org_id, last=False)
        return batch

    def _sit_out(self) -> list[tuple[UUID, deque[Waiting]]]:
        """Take organisations out of turn whose events were too many for the batch before, if others wait.

        A batch without their events is stored quickly; one with them keeps the others waiting.
        """
        crowding, self._crowding = [each for each in self._crowding if each in self._queues], {}
        if len(crowding) == len(self._queues):
            return []
        return [(org_id, self._queues.pop(org_id)) for org_id in crowding]

    def _return(self, returned: Sequence[Waiting]) -> None:
        """Put events back to the front of their queues, in their order and with their followers behind each.

        Their organisations have the next turns, also in this order: the first event of a batch is stored
        however many deliveries it makes, and so each of them comes to be that one.
        """
        for waiting in reversed(returned):
            org_id = waiting.event.org_id
            queue = self._aside.get(org_id)
            if queue is None:
                queue = self._queues.setdefault(org_id, deque())
                self._queues.move_to_end(org_id, last=False)
            for back in (*reversed(waiting.followers), waiting):
                queue.appendleft(back)
                self._waiting_events += 1
                self._waiting_bytes += back.size
            waiting.followers = []

    def _turn_late_away(self) -> bool:
        """Answer events that have waited too long, a batch of them at most; say whether there were any."""
        oldest = time.monotonic() - MAX_WAIT_SECONDS
        late = [org_id for org_id, queue in self._queues.items() if queue[0].since < oldest]
        room = FLUSH_ROWS
        for org_id in late:
            queue = self._queues[org_id]
            while room and queue and queue[0].since < oldest:
                self._turn_away(queue.popleft(), errors.Overloaded(_TOO_LATE))
                room -= 1
            if not queue:
                del self._queues[org_id]
        return bool(late)

    def _turn_away(self, waiting: Waiting, error: errors.TriggersError) -> None:
        """Answer an event that has left its queue without being stored."""
        self._waiting_events -= 1
        self._waiting_bytes -= waiting.size
        self._answer(waiting, error)

    # ---- judged again ----------------------------------------------------------------------------

    def _set_aside(self, org_id: UUID, queue: deque[Waiting]) -> None:
        self._aside[org_id] = queue
        judge = asyncio.create_task(self._judge_again(org_id, queue), name=f"judge {org_id}")
        self._judges.add(judge)
        judge.add_done_callback(self._judges.discard)

    async def _judge_again(self, org_id: UUID, queue: deque[Waiting]) -> None:
        """Judge what is in a queue that was set aside, and give it its turns again."""
        refusal: errors.TriggersError | None = None
        crowded: set[Waiting] = set()
        try:
            await self._judging.refresh(org_id)
            pace = Pace()
            for waiting in tuple(queue):  # what joins them from here on is judged by what is known now
                judged = await self._judging.judge_paced(waiting.event)
                if not self._take_in(waiting, judged):
                    crowded.add(waiting)
                waiting.rounds += 1
                await pace.breathe()
        except errors.TriggersError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - every caller must get an answer
            log.error("judging_failed", org_id=str(org_id), error=repr(error))
            refusal = errors.DatabaseUnavailable()
        del self._aside[org_id]
        kept: deque[Waiting] = deque()
        for waiting in queue:
            if waiting in crowded:
                self._turn_away(waiting, errors.Overloaded())
            elif refusal is None and waiting.rounds <= JUDGING_ROUNDS:
                kept.append(waiting)
            else:
                self._turn_away(
                    waiting, refusal or errors.Unavailable("Subscriptions are changing; try again.")
                )
        if kept:
            self._queues[org_id] = kept
        self._work.set()

    def _take_in(self, waiting: Waiting, judged: Judged) -> bool:
        """Note what an event was found to be; False if there is no room for that."""
        before = waiting.size
        waiting.judge(judged)
        self._waiting_bytes += waiting.size - before
        self._room.give_back(waiting.event.org_id, waiting.room)
        if self._has_room(waiting):
            return True
        waiting.room = 0
        return False

    # ---- the flush -------------------------------------------------------------------------------

    async def _run(self) -> None:
        connection: Connection | None = None
        while self._queues or self._aside or not self._stopping:
            if not self._queues:
                self._work.clear()
                await self._work.wait()
                continue
            if self._turn_late_away():
                await asyncio.sleep(0)  # for the answers to go out, before there are more
                continue
            if batch := self._take():
                connection = await self._store(connection, batch, again=True)
                self._crowding = dict.fromkeys(waiting.event.org_id for waiting in self._left_over)
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
                if self._left_over:  # none may overtake those
                    self._left_over += batch[middle:]
                    return connection
                return await self._store(connection, batch[middle:], again=True)
            if connection is not None:
                connection.terminate()
            if again and connection is not None and is_unavailable(error):
                for waiting in batch:
                    waiting.since = math.inf  # it may be stored: only the database can answer it now
                return await self._store(None, batch, again=False)
            log.error("flush_failed", events=len(batch), error=repr(error))
            for waiting in batch:
                self._answer_all(waiting, errors.DatabaseUnavailable())
            return None
        return connection

    async def _flush(self, connection: Connection, batch: list[Waiting]) -> None:
        care = self._care if time.monotonic() < self._careful_until else Care.NONE
        receipt = await event_store.accept(
            connection,
            self.clock,
            [w.event for w in batch],
            self._window,
            [w.judged.rules.version for w in batch],
            await do(_findings(batch), Pace(in_line=False)),
            care=care,
        )
        observability.flushes_total.inc()
        if receipt.care > care:
            self._care, self._careful_until = receipt.care, time.monotonic() + CAREFUL_SECONDS
        if not receipt.missing:
            # Not at once: the next batch is on its way to PostgreSQL before these callers are answered.
            asyncio.get_running_loop().call_soon(self._tell, batch, set(), receipt.handover)
            return
        missing = set(receipt.missing)
        self._tell(batch, missing, receipt.handover)
        await self._explain(connection, [w for w in batch if w.event.id in missing])

    def _tell(self, batch: list[Waiting], missing: set[UUID], handover: Handover) -> None:
        """Tell whoever waits for a batch that is committed, but for what was not stored with it."""
        try:
            self._committed({w.event.org_id for w in batch}, handover)
        finally:
            for waiting in batch:
                if waiting.event.id not in missing:
                    self._decide(waiting, waiting.event.id)

    async def _explain(self, connection: Connection, missing: list[Waiting]) -> None:
        """Decide the events that a flush did not store."""
        found = await event_store.resolve(connection, [w.event for w in missing])
        for waiting in missing:
            event = waiting.event
            reason = found[event.id]
            if reason.stored:
                self._decide(waiting, event.id)
            elif reason.winner is not None:
                self._decide(waiting, reason.winner, reason.fingerprint)
            elif reason.version is None:
                self._answer_all(waiting, errors.NotFound("The organisation of this event does not exist."))
            else:  # judged by old rules, or over the bound of deliveries, or its dedup row has gone since
                if reason.version != waiting.judged.rules.version:
                    self._judging.outdated(event.org_id)
                self._left_over.append(waiting)

    def _refuse(self, guilty: Waiting, error: BaseException) -> None:
        log.warning("event_refused_by_database", event_id=str(guilty.event.id), error=repr(error))
        self._answer(guilty, errors.Invalid("The database refused to store this event."))
        self._left_over.extend(guilty.followers)

    def _decide(self, waiting: Waiting, winner: UUID, fingerprint: bytes | None = None) -> None:
        """Answer an event and its followers, given which event has their dedup_id, and its fingerprint
        unless it is that event itself."""
        for each in (waiting, *waiting.followers):
            if each.event.id == winner:
                self._answer(each, Accepted(winner, False))
            elif each.event.fingerprint == (fingerprint or waiting.event.fingerprint):
                self._answer(each, Accepted(winner, True))
            else:
                self._answer(each, errors.DedupConflict(original_id=str(winner)))

    def _answer_all(self, waiting: Waiting, outcome: Outcome) -> None:
        for each in (waiting, *waiting.followers):
            self._answer(each, outcome)

    def _answer(self, waiting: Waiting, outcome: Outcome) -> None:
        if waiting.answered:  # it was committed, and what came after that failed
            return
        waiting.answered = True
        self._room.give_back(waiting.event.org_id, waiting.room)
        if not waiting.future.done():  # its caller may have gone
            waiting.future.set_result(outcome)


def _findings(batch: list[Waiting]) -> Steps[dict[str, Finding]]:
    """What was found out about all events of a batch, under an event's and a subscription's id in one."""
    found: dict[str, Finding] = {}
    for waiting in batch:
        if waiting.judged.findings:
            event_id = str(waiting.event.id)
            for subscription_id, finding in waiting.judged.findings.items():
                found[event_id + subscription_id] = finding
            yield
    return found
