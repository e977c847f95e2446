"""Which events go into the next batch: organisations take turns, an event at a time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from triggers.events.matching import Judged
from triggers.events.waiting_event import WaitingEvent

FLUSH_ROWS: Final = 512
FLUSH_BYTES: Final = 512 * 1024
"""All wait for the flush under way: with more, large events keep small ones of others waiting."""
FLUSH_ROWS_OF_FEW: Final = 32
"""The same where no more than twice as many wait. Those are about as many callers, most of all there are: if
all were stored at once, nobody would be left to be answered and to ask again meanwhile."""

Queue = deque[WaitingEvent]


class FairQueues:
    """Events that wait for a flush, in a queue for each organisation that has any.

    Whatever an organisation has waiting, the next batch has the first events of the others. The states of a
    queue, which is gone when it is empty:

        in turn → aside → in turn         its first event was judged by rules that have changed, which
                                          `outdated` is told; `take_aside` when all were judged again
        in turn → sitting out → in turn   for one batch, if the batch before left some of its events over
                                          and others wait: without them a batch is stored quickly
    """

    def __init__(
        self, stands: Callable[[UUID, Judged], bool], outdated: Callable[[UUID, Sequence[WaitingEvent]], None]
    ) -> None:
        """`stands` says whether an organisation's event would be judged by the same rules now. `outdated` is
        told of a queue that was set aside."""
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
        """Take the next batch. Events that share a dedup_id with one of it follow that one."""
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
        """Put what a batch left over at the front of its queues, in order and with the followers behind each.

        Their organisations have the next turns, also in this order: the first event of a batch is stored
        however many deliveries it makes, and so each of them comes to be that one.
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
        """Take out all events of a queue that was set aside; those that shall wait on are `put` again."""
        queue = self._aside.pop(org_id)
        self.events -= len(queue)
        self.payload_bytes -= sum(waiting.size for waiting in queue)
        return list(queue)

    def judge(self, waiting: WaitingEvent, judged: Judged) -> None:
        """Note the rules that a waiting event was judged by, and what they found."""
        self.payload_bytes -= waiting.size
        waiting.judge(judged)
        self.payload_bytes += waiting.size

    def take_late(self, oldest: float) -> list[WaitingEvent]:
        """Take out events that wait since before `oldest` (monotonic), a batch of them at most."""
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
