"""Shares limited resources among tenants: each takes at most half of what is free, and they wait in turns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar
from uuid import UUID

Waiting = TypeVar("Waiting", bound=Hashable)

acting_for: ContextVar[UUID | None] = ContextVar("acting_for", default=None)
"""The tenant whose request the current task carries out, None if it works for no tenant in particular."""


class Room:
    """Counts how much of a limited resource each tenant holds.

    After a tenant has taken something, it holds at most as much as is still free. So a single tenant can
    hold a half. Two tenants can hold a third each, and a third stays free for the next one. A tenant that
    holds nothing gets what it asks for if so much is free.
    """

    __slots__ = ("_held", "capacity", "taken")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self._held: dict[UUID, int] = {}

    def held(self, org_id: UUID) -> int:
        """How much a tenant holds."""
        return self._held.get(org_id, 0)

    def most(self, org_id: UUID) -> int:
        """How much a tenant may hold, if the others keep what they hold."""
        return (self.capacity - self.taken + self._held.get(org_id, 0)) // 2

    def has_room(self, org_id: UUID, amount: int = 1) -> bool:
        """Whether a tenant may take this much more."""
        before = self._held.get(org_id, 0)
        free = self.capacity - self.taken - amount
        return before + amount <= free or (not before and free >= 0)

    def take(self, org_id: UUID, amount: int = 1) -> bool:
        """Take this much more for a tenant; False, and nothing is taken, if there is no room for that."""
        if not amount:
            return True
        before = self._held.get(org_id, 0)
        free = self.capacity - self.taken - amount
        if before + amount > free and (before or free < 0):
            return False
        self._held[org_id] = before + amount
        self.taken += amount
        return True

    def give_back(self, org_id: UUID, amount: int = 1) -> None:
        """Give back some of what a tenant took."""
        if not amount:
            return
        left = self._held[org_id] - amount
        self.taken -= amount
        if left:
            self._held[org_id] = left
        else:
            del self._held[org_id]


class Line(Generic[Waiting]):
    """Things that wait for room, in one queue for each tenant. Tenants have turns of one thing each.

    A tenant whose queue is empty is forgotten. If it comes again, it stands behind the others. If turns take
    long, `postpone` puts a tenant behind those that came during its turn.
    """

    def __init__(self) -> None:
        self._queues: OrderedDict[UUID, dict[Waiting, None]] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queues)

    def add(self, org_id: UUID, thing: Waiting) -> None:
        """Let a thing wait behind the others of its tenant. One that waits already keeps its place."""
        self._queues.setdefault(org_id, {})[thing] = None

    def remove(self, org_id: UUID, thing: Waiting) -> bool:
        """Let a thing wait no longer. False: it does not wait."""
        queue = self._queues.get(org_id)
        if queue is None or thing not in queue:
            return False
        del queue[thing]
        if not queue:
            del self._queues[org_id]
        return True

    def postpone(self, org_id: UUID) -> None:
        """Let a tenant stand behind the others, because it has just had its turn."""
        if org_id in self._queues:
            self._queues.move_to_end(org_id)

    def next(self, may: Callable[[UUID], bool] = lambda _: True) -> tuple[UUID, Waiting] | None:
        """Take the first thing of the next tenant that may have a turn; None if there is none."""
        for org_id, queue in self._queues.items():
            if may(org_id):
                thing = next(iter(queue))
                del queue[thing]
                if queue:
                    self._queues.move_to_end(org_id)
                else:
                    del self._queues[org_id]
                return org_id, thing
        return None

    def clear(self) -> None:
        """Let nothing wait any more."""
        self._queues.clear()


class Places:
    """Places that tenants share. Belongs to one event loop. One place:

    free ──`take`──▶ held by a tenant ──`leave`──▶ free, and given to the next one that waits

    A tenant waits while it holds as many places as are free. If no place is free, the next one goes to a
    tenant that holds none.
    """

    def __init__(self, capacity: int) -> None:
        self.room = Room(capacity)
        self._line: Line[asyncio.Future[None]] = Line()

    @asynccontextmanager
    async def hold(self, org_id: UUID) -> AsyncIterator[None]:
        """Hold a place within a block, after waiting for one if necessary."""
        await self.take(org_id)
        try:
            yield
        finally:
            self.leave(org_id)

    async def take(self, org_id: UUID) -> None:
        """Take a place, after waiting for one if necessary. `leave` gives it back."""
        # Others may wait only because they hold their share, so they do not stand before this tenant.
        if not self.room.take(org_id):
            await self._wait(org_id)

    def leave(self, org_id: UUID) -> None:
        """Give a place back, to the next one that waits and may have it."""
        self.room.give_back(org_id)
        self._line.postpone(org_id)
        while (found := self._line.next(self.room.take)) is not None:
            next_id, place = found
            if place.cancelled():  # and not yet removed
                self.room.give_back(next_id)
            else:
                place.set_result(None)

    async def _wait(self, org_id: UUID) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.add(org_id, place)
        try:
            await place
        except asyncio.CancelledError:
            if not self._line.remove(org_id, place) and not place.cancelled():
                self.leave(org_id)  # it was given the place at the same moment
            raise
