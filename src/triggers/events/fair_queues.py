"""Chooses the events of the next batch. Organisations take turns, with one event per turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from triggers.events.matching import Judged
from triggers.events.waiting_event import WaitingEvent

FLUSH_ROWS: Final = 512
FLUSH_BYTES: Final = 512 * 1024
"""A batch of this many rows, or of this many bytes, takes no more events. Larger batches would make small
events wait longer for the large events of other organisations."""
FLUSH_ROWS_OF_FEW: Final = 32
"""If at most twice as many events wait, a batch takes at most this many of them. Then one half of the callers
is answered and sends again while the other half is stored."""

Queue = deque[WaitingEvent]


class FairQueues:
    """Events that wait for a flush, in a queue for each organisation that has any.

    However many events an organisation has waiting, the next batch also has the first events of the others.
    An empty queue is removed. The states of a queue:

        in turn → aside → in turn         the rules that judged its first event have changed, so `outdated`
                                          is called; `take_aside` and `put` when all are judged again
        in turn → sitting out → in turn   for one batch, if the previous batch left some of its events over
                                          and others wait, so that theirs are stored quickly
    """

    def __init__(
        self, stands: Callable[[UUID, Judged], bool], outdated: Callable[[UUID, Sequence[WaitingEvent]], None]
    ) -> None:
        """`stands`: whether the rules that judged an event of an organisation are still current. `outdated`
        is called with each queue that is set aside."""
        self._stands = stands
        self._outdated = outdated
        self._in_turn: OrderedDict[UUID, Queue] = OrderedDict()
        self._aside: dict[UUID, Queue] = {}
        self._crowding: dict[UUID, None] = {}  # organisations of which something was left over, in turn
        self.events = 0
        self.payload_bytes = 0

    @property
    def any_in_turn(self) -> bool:
        """Whether there is something for a batch."""
        return bool(self._in_turn)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._in_turn and not self._aside

    def put(self, waiting: WaitingEvent) -> None:
        """Let an event wait behind the others of its organisation."""
        org_id = waiting.event.org_id
        if queue := self._in_turn.get(org_id) or self._aside.get(org_id):
            queue.append(waiting)
        else:
            self._in_turn[org_id] = deque((waiting,))
        self.events += 1
        self.payload_bytes += waiting.size

    def next_batch(self) -> list[WaitingEvent]:
        """Take the next batch. An event with the dedup_id of an event in the batch becomes its follower."""
        batch: list[WaitingEvent] = []
        sitting_out = self._sit_out()
        leaders: dict[tuple[UUID, str], WaitingEvent] = {}
        size = 0
        most = FLUSH_ROWS_OF_FEW if self.events <= 2 * FLUSH_ROWS_OF_FEW else FLUSH_ROWS
        while self._in_turn and len(batch) < most and size < FLUSH_BYTES:
            org_id, queue = self._in_turn.popitem(last=False)
            if not self._stands(org_id, queue[0].judged):
                self._aside[org_id] = queue
                self._outdated(org_id, queue)
                continue
            waiting = queue.popleft()
            if queue:
                self._in_turn[org_id] = queue
            size += waiting.size
            self.events -= 1
            self.payload_bytes -= waiting.size
            if (dedup_id := waiting.event.dedup_id) is not None:
                leader = leaders.setdefault((org_id, dedup_id), waiting)
                if leader is not waiting:
                    leader.followers.append(waiting)
                    continue
            batch.append(waiting)
        for org_id, queue in reversed(sitting_out):
            self._in_turn[org_id] = queue
            self._in_turn.move_to_end(org_id, last=False)
        return batch

    def _sit_out(self) -> list[tuple[UUID, Queue]]:
        crowding, self._crowding = [each for each in self._crowding if each in self._in_turn], {}
        if len(crowding) == len(self._in_turn):
            return []
        return [(org_id, self._in_turn.pop(org_id)) for org_id in crowding]

    def put_back(self, left_over: Sequence[WaitingEvent]) -> None:
        """Put events that a batch left over back at the front of their queues, each before its followers.

        Their organisations get the next turns, in the same order. The first event of a batch is always
        stored, however many deliveries it needs, so every event that is left over is stored in the end.
        """
        self._crowding = dict.fromkeys(waiting.event.org_id for waiting in left_over)
        for waiting in reversed(left_over):
            org_id = waiting.event.org_id
            queue = self._aside.get(org_id)
            if queue is None:
                queue = self._in_turn.setdefault(org_id, deque())
                self._in_turn.move_to_end(org_id, last=False)
            for back in (*reversed(waiting.followers), waiting):
                queue.appendleft(back)
                self.events += 1
                self.payload_bytes += back.size
            waiting.followers = []

    def take_aside(self, org_id: UUID) -> list[WaitingEvent]:
        """Remove a queue that was set aside and return its events. The caller can `put` them back."""
        queue = self._aside.pop(org_id)
        self.events -= len(queue)
        self.payload_bytes -= sum(waiting.size for waiting in queue)
        return list(queue)

    def take_all(self) -> list[WaitingEvent]:
        """Remove and return all events, including those of queues that were set aside."""
        queues = (*self._in_turn.values(), *self._aside.values())
        self._in_turn.clear()
        self._aside.clear()
        self.events = self.payload_bytes = 0
        return [waiting for queue in queues for waiting in queue]

    def judge(self, waiting: WaitingEvent, judged: Judged) -> None:
        """Note the rules with which a waiting event was matched, and the result."""
        self.payload_bytes -= waiting.size
        waiting.judge(judged)
        self.payload_bytes += waiting.size

    def take_late(self, oldest: float) -> list[WaitingEvent]:
        """Remove and return events that came before `oldest` (monotonic time), at most FLUSH_ROWS of them."""
        late: list[WaitingEvent] = []
        for org_id in [org_id for org_id, queue in self._in_turn.items() if queue[0].since < oldest]:
            queue = self._in_turn[org_id]
            while len(late) < FLUSH_ROWS and queue and queue[0].since < oldest:
                late.append(queue.popleft())
            if not queue:
                del self._in_turn[org_id]
        self.events -= len(late)
        self.payload_bytes -= sum(waiting.size for waiting in late)
        return late
