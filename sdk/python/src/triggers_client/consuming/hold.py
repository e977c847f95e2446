"""The lease of one message while it is handled: renewed, bounded, and known to be lost in time.

Nothing here compares clocks of two machines. A lease counts from the moment before the request was sent that
took or renewed it, so it always ends here before it ends by the clock of the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from triggers_client.consuming.message import Message
from triggers_client.consuming.settings import ConsumerSettings
from triggers_client.errors import Refused, TriggersError

if TYPE_CHECKING:
    from triggers_client._async.inbox import AsyncInboxHandle

log = logging.getLogger("triggers_client.consumer")


class Hold:
    """Leased → renewed at every third of the lease → lost, or settled by the engine."""

    def __init__(
        self, inbox: AsyncInboxHandle, message: Message, settings: ConsumerSettings, asked_at: float
    ) -> None:
        """`asked_at`: the monotonic time before the lease was asked for the first time."""
        self._inbox = inbox
        self._message = message
        self._settings = settings
        self._ends = asked_at + settings.lease_seconds
        self._stops = time.monotonic() + settings.max_seconds

    async def confirm(self) -> bool:
        """Return whether the lease is held. After a long poll it may have begun at any time of the wait, so
        it is renewed before the handler begins.
        """
        lease_seconds = self._settings.lease_seconds
        if self._ends - time.monotonic() > lease_seconds * 2 / 3:
            return True
        self._ends = time.monotonic() + lease_seconds  # how long to try: only a renewal tells its end
        return await self._renewed(lease_seconds)

    async def keep(self) -> None:
        """Renew the lease until it is lost, and say so to the handler."""
        third = self._settings.lease_seconds / 3
        while True:
            await asyncio.sleep(max(self._ends - 2 * third - time.monotonic(), 0))
            seconds = min(self._settings.lease_seconds, int(self._stops - time.monotonic()))
            if seconds * 3 < self._settings.lease_seconds or not await self._renewed(seconds):
                break
        await asyncio.sleep(min(self._left(), max(self._stops - time.monotonic(), 0)))
        self._message.lease_lost.set()

    def _left(self) -> float:
        """Seconds until the lease counts as lost."""
        return max(self._ends - self._settings.margin_seconds - time.monotonic(), 0)

    async def _renewed(self, seconds: int) -> bool:
        """Try until the lease is renewed, refused, or too close to its end."""
        longest, failures = max(self._settings.lease_seconds / 3, 1.0), 0
        while (left := self._left()) > 0:
            sent_at = time.monotonic()
            extending = self._inbox.extend(self._message.lease_id, lease_seconds=seconds)
            try:
                await asyncio.wait_for(extending, min(left, longest))
            except Refused as error:
                log.warning("The lease of message %s is lost: %s", self._message.id, error)
                self._ends = sent_at
                return False
            except TriggersError as error:
                await asyncio.sleep(min(self._settings.pause_seconds(error, failures), self._left()))
                failures += 1
            except asyncio.TimeoutError:
                failures += 1
            else:
                self._ends = sent_at + seconds
                return True
        log.warning("The lease of message %s could not be renewed in time.", self._message.id)
        return False
