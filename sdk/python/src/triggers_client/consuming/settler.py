"""Settles messages, however often a request has to be repeated for that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from triggers_client.consuming.message import Ack, Message, Reject, Release, Settlement
from triggers_client.consuming.settings import ConsumerSettings
from triggers_client.errors import Refused, TriggersError

if TYPE_CHECKING:
    from triggers_client._async.inbox import AsyncInboxHandle

log = logging.getLogger("triggers_client.consumer")
_GIVE_BACK_SECONDS = 2.0
_RACE_SECONDS = 0.3


class ConsumerSettler:
    """Ends the leases of a consumer."""

    def __init__(self, inbox: AsyncInboxHandle, settings: ConsumerSettings) -> None:
        self._inbox = inbox
        self._settings = settings

    async def settle(self, message: Message, settlement: Settlement, beat: asyncio.Future[None]) -> None:
        """Settle a message until the service has answered, or until `beat` has ended, because the lease is
        lost and the message comes again.
        """
        failures = 0
        while True:
            try:
                await self._send(message, settlement)
                return
            except Refused as error:
                log.warning("Message %s is not settled: %s", message.id, error)
                if error.status != 422 or not message.note:
                    return
                message.note, pause = None, 0.0  # the note is wrong, or the service is older than notes
            except TriggersError as error:
                pause = self._settings.pause_seconds(error, failures)
            if beat.done():
                log.warning("Message %s is not settled, because its lease is lost.", message.id)
                return
            failures += 1
            await asyncio.wait({beat}, timeout=pause)

    async def give_back(self, lease_id: str) -> None:
        """Release what may be leased under this id, and was not handled."""
        for _ in range(2):
            try:
                await asyncio.wait_for(self._release(lease_id, Release(counted=False)), _GIVE_BACK_SECONDS)
                return
            except (TriggersError, asyncio.TimeoutError):  # noqa: PERF203 - nothing was leased, or it is about to be
                await asyncio.sleep(_RACE_SECONDS)

    def _send(self, message: Message, settlement: Settlement) -> Awaitable[Any]:
        more: dict[str, Any] = {"note": message.note} if message.note else {}
        if isinstance(settlement, Ack):
            return self._inbox.ack(message.lease_id, **more)
        if isinstance(settlement, Reject):
            return self._inbox.reject(message.lease_id, settlement.reason, **more)
        return self._release(message.lease_id, settlement, **more)

    async def _release(self, lease_id: str, release: Release, **more: Any) -> None:
        if release.delay_seconds:
            more["delay_seconds"] = release.delay_seconds
        uncounted: dict[str, Any] = {} if release.counted else {"counted": False}
        try:
            await self._inbox.release(lease_id, **more, **uncounted)
        except Refused as error:
            if error.status != 422 or release.counted:
                raise
            await self._inbox.release(lease_id, **more)  # the service is older than `counted`
