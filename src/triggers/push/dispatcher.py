"""Chooses the next delivery. Organisations share the slots, and the lanes of each share its slots.

An organisation takes at most half of the free slots, as `Room` says. A lane gets no slot beyond a quarter of
what its organisation may hold while another lane of that organisation waits. So slow endpoints leave slots
for the others: if eight organisations hold all they can of 512 slots, one slot is still free for a ninth.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from triggers.fairness.room import Room
from triggers.push.lane import Lane
from triggers.push.store import Due


class Dispatcher:
    """Hands deliveries to senders, in turn over organisations and over the lanes of each."""

    def __init__(self, slots: int, now: Callable[[], datetime]) -> None:
        self.slots = slots
        self._room = Room(slots)
        self._now = now
        self._line: OrderedDict[UUID, deque[Lane]] = OrderedDict()  # the lanes that wait, by organisation
        self._idle: list[asyncio.Future[None]] = []
        self._emptied = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """The number of deliveries in flight."""
        return self._room.taken

    def offer(self, lane: Lane) -> None:
        """Put a lane into the queue if it may send now."""
        self._line_up(lane)
        if self._line:
            self._wake()

    async def next(self) -> tuple[Lane, Due]:
        """The next delivery to send; waits until there is one."""
        while True:
            if (chosen := self._choose()) is not None:
                if self._line:  # each woken sender wakes the next one, as long as there is something to send
                    self._wake()
                return chosen
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            try:
                await idle
            except asyncio.CancelledError:
                if idle in self._idle:
                    self._idle.remove(idle)
                raise

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        self._emptied.clear()
        if self.in_flight:
            await self._emptied.wait()

    def done(self, lane: Lane) -> None:
        """A delivery that `next` gave is no longer in flight. Its sender asks for the next one at once."""
        lane.ended()
        self._freed(lane)

    def give_back(self, lane: Lane, due: Due) -> None:
        """A delivery that `next` gave was not sent."""
        lane.put_back(due)
        self._freed(lane)
        if self._line:
            self._wake()

    def _freed(self, lane: Lane) -> None:
        self._room.give_back(lane.org_id)
        if not self._room.taken:
            self._emptied.set()
        self._line_up(lane)
        if lane.org_id in self._line:  # behind those that came during its turn
            self._line.move_to_end(lane.org_id)

    def _choose(self) -> tuple[Lane, Due] | None:
        for _ in range(len(self._line)):
            org_id, lanes = next(iter(self._line.items()))
            self._line.move_to_end(org_id)
            if not self._room.take(org_id):
                continue
            chosen = self._choose_lane(org_id, lanes)
            if not lanes:
                del self._line[org_id]
            if chosen is not None:
                return chosen
            self._room.give_back(org_id)
        return None

    def _choose_lane(self, org_id: UUID, lanes: deque[Lane]) -> tuple[Lane, Due] | None:
        """The next delivery of an organisation that has taken a slot for it; None if no lane may send."""
        for _ in range(len(lanes)):
            lane = lanes.popleft()
            if lanes and lane.in_flight >= max(1, self._room.most(org_id) // 4):
                lanes.append(lane)
                continue
            due = lane.take() if lane.may_send(self._now) else None
            if due is not None and lane.may_send(self._now):
                lanes.append(lane)
            else:
                lane.leave_line()  # the rate limit or the breaker will offer it again
            if due is not None:
                return lane, due
        return None

    def _line_up(self, lane: Lane) -> None:
        if lane.in_line or not lane.may_send(self._now):
            return
        lane.stand_in_line()
        if (lanes := self._line.get(lane.org_id)) is None:
            self._line[lane.org_id] = deque((lane,))
        else:
            lanes.append(lane)

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.pop()  # the one that worked last: the processor's cache still knows it
            if not idle.done():
                idle.set_result(None)
                return
