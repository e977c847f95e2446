"""How many requests may be under way at once."""

import asyncio
from collections import deque

from triggers.outbound.result import NoConnection, Reason


class Places:
    """Belongs to one event loop. States of one place:

    free ──take──▶ taken ──leave, nobody waits──▶ free
                     └────leave, somebody waits──▶ taken by the one that has waited longest
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    @property
    def free(self) -> int:
        """How many nobody has."""
        return self._limit - self.taken

    def take(self) -> bool:
        """Take a free place; False if there is none."""
        if self.taken >= self._limit:
            return False
        self.taken += 1
        return True

    async def wait(self, deadline: float) -> None:
        """Wait for a place until `deadline`, a time of the event loop, and take it.

        Raises:
            NoConnection: busy; no place became free.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout_at(deadline):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.leave()  # it was handed over as we gave up
            if isinstance(error, TimeoutError):
                raise NoConnection(Reason.BUSY) from None
            raise

    def leave(self) -> None:
        """Give a place back, to the one that has waited longest if there is one."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.taken -= 1
