"""Chooses the next delivery. Organisations share the slots, and the lanes of each share its slots.

An organisation gets no slot beyond half of all slots, or beyond a quarter while another one waits. A lane
gets no slot beyond a quarter of that number while another lane of its organisation waits. So slow endpoints
leave slots for the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from triggers.push.lane import Lane
from triggers.push.store import Due


class _Share:
    """The slots that one organisation uses, and its lanes that wait."""

    __slots__ = ("in_flight", "lanes", "waiting")

    def __init__(self) -> None:
        self.in_flight = 0
        self.lanes: deque[Lane] = deque()
        self.waiting = False  # stands in the line of organisations


class Dispatcher:
    """Hands deliveries to senders, in turn over organisations and over the lanes of each."""

    def __init__(self, slots: int, now: Callable[[], datetime]) -> None:
        self.slots = slots
        self.in_flight = 0
        self._now = now
        self._shares: dict[UUID, _Share] = {}
        self._line: deque[UUID] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._emptied = asyncio.Event()

    def offer(self, lane: Lane) -> None:
        """Put a lane into the queue if it may send now."""
        self._line_up(lane)
        if self._line:
            self._wake()

    async def next(self) -> tuple[Lane, Due]:
        """The next delivery to send; waits until there is one."""
        while True:
            if (chosen := self._choose()) is not None:
                if self._line:  # one wake-up begets the next, as long as there is something
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
        self.in_flight -= 1
        if not self.in_flight:
            self._emptied.set()
        share = self._shares[lane.org_id]
        share.in_flight -= 1
        self._line_up(lane)
        if share.lanes:
            self._stand(lane.org_id, share)
        elif not share.in_flight and not share.waiting:
            del self._shares[lane.org_id]

    def _choose(self) -> tuple[Lane, Due] | None:
        for _ in range(len(self._line)):
            org_id = self._line.popleft()
            share = self._shares[org_id]
            share.waiting = False
            most = self.slots // 4 if self._line else self.slots // 2
            if share.in_flight >= most:
                self._stand(org_id, share)
                continue
            chosen = self._choose_lane(share, most)
            if share.lanes:
                self._stand(org_id, share)
            if chosen is not None:
                return chosen
            if not share.in_flight and not share.waiting:
                del self._shares[org_id]
        return None

    def _choose_lane(self, share: _Share, most: int) -> tuple[Lane, Due] | None:
        for _ in range(len(share.lanes)):
            lane = share.lanes.popleft()
            if lane.in_flight >= max(1, most // 4) and share.lanes:
                share.lanes.append(lane)
                continue
            lane.leave_line()
            if not lane.may_send(self._now):
                continue  # whatever holds it offers it again
            due = lane.take()
            self.in_flight += 1
            share.in_flight += 1
            if lane.may_send(self._now):
                lane.stand_in_line()
                share.lanes.append(lane)
            return lane, due
        return None

    def _line_up(self, lane: Lane) -> None:
        if lane.in_line or not lane.may_send(self._now):
            return
        lane.stand_in_line()
        share = self._shares.setdefault(lane.org_id, _Share())
        share.lanes.append(lane)
        self._stand(lane.org_id, share)

    def _stand(self, org_id: UUID, share: _Share) -> None:
        if not share.waiting:
            share.waiting = True
            self._line.append(org_id)

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.pop()  # the one that worked last: the processor's cache still knows it
            if not idle.done():
                idle.set_result(None)
                return
