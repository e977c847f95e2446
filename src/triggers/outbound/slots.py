"""Bounds the number of requests that are under way at the same time."""

import asyncio
from collections import deque

from triggers.outbound.result import NoConnection, Reason


class Slots:
    """Belongs to one event loop. States of one slot:

    free ──take──▶ taken ──leave, nobody waits──▶ free
                     └────leave, somebody waits──▶ taken by the one that has waited longest
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    @property
    def free(self) -> int:
        """The number of free slots."""
        return self._limit - self.taken

    def take(self) -> bool:
        """Take a free slot; False if there is none."""
        if self.taken >= self._limit:
            return False
        self.taken += 1
        return True

    async def wait(self, deadline: float) -> None:
        """Wait for a slot until `deadline`, a time of the event loop, and take it.

        Raises:
            NoConnection: busy; no slot became free.
        """
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        try:
            async with asyncio.timeout_at(deadline):
                await slot
        except BaseException as error:
            if slot.done() and not slot.cancelled():
                self.leave()  # it was handed over as we gave up
            if isinstance(error, TimeoutError):
                raise NoConnection(Reason.BUSY) from None
            raise

    def leave(self) -> None:
        """Give a slot back, to the one that has waited longest if there is one."""
        while self._waiting:
            slot = self._waiting.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self.taken -= 1
