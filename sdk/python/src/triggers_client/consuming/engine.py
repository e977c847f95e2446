"""Leases messages, has them handled, and settles them, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from triggers_client.calls import pause_seconds
from triggers_client.consuming.hold import Hold
from triggers_client.consuming.message import (
    Ack,
    Message,
    Reject,
    Release,
    Settlement,
    as_reason,
    message_of,
    text_of,
)
from triggers_client.consuming.settings import ConsumerSettings, delay_seconds
from triggers_client.consuming.settler import ConsumerSettler
from triggers_client.errors import RateLimited, Refused, TriggersError
from triggers_client.models import Lease

if TYPE_CHECKING:
    from triggers_client._async.inbox import AsyncInboxHandle

log = logging.getLogger("triggers_client.consumer")
_WAIT_SECONDS = 20
_PAUSED_SECONDS = 5.0
_LAST_SECONDS = 1.0
"""For so long a handler that was told to stop is waited for."""
_END_SECONDS = 4.0
"""For so long a consumer that gives up tries to release its messages."""


class Calls(Protocol):
    """Begins and ends calls of the handler."""

    def begin(self, message: Message) -> asyncio.Future[Any]:
        """Call the handler. The result says when it has ended, and with which exception."""

    def cancel(self, call: asyncio.Future[Any]) -> None:
        """End a call that is no longer wanted, if that is possible."""


class Engine:
    """One run of a consumer: running → stopping (handlers finish) → giving up (they are released)."""

    def __init__(self, inbox: AsyncInboxHandle, settings: ConsumerSettings, calls: Calls) -> None:
        self._inbox = inbox
        self._settings = settings
        self._calls = calls
        self._settler = ConsumerSettler(inbox, settings)
        self._stopping = asyncio.Event()
        self._giving_up = asyncio.Event()

    def stop(self, *, now: bool = False) -> None:
        """Lease no more messages. Handlers have `drain_seconds` to finish, or none if it must be `now`."""
        self._stopping.set()
        if now:
            self._giving_up.set()

    async def run(self) -> None:
        """Consume until `stop`.

        Raises:
            Refused: there is no such inbox, or the key may not use it.
        """
        workers = [asyncio.ensure_future(self._work()) for _ in range(self._settings.concurrency)]
        drain = asyncio.ensure_future(self._drain(workers))
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            self.stop()
            await asyncio.wait(workers)
        except asyncio.CancelledError:
            self.stop(now=True)
            await asyncio.wait(workers)
            raise
        finally:
            drain.cancel()
            errors = [each.exception() for each in workers if each.done() and not each.cancelled()]
        for error in errors:
            if error is not None:
                raise error

    async def _drain(self, workers: Sequence[asyncio.Future[None]]) -> None:
        await self._stopping.wait()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._giving_up.wait(), self._settings.drain_seconds)
        self._giving_up.set()
        await asyncio.sleep(_END_SECONDS)
        log.warning("The service does not answer. Messages that are not released are available later.")
        for worker in workers:
            worker.cancel()

    async def _work(self) -> None:
        while not self._stopping.is_set():
            lease_id, asked_at = str(uuid.uuid4()), time.monotonic()
            lease = await self._lease(lease_id)
            if self._stopping.is_set() and lease is not None and lease.results:
                await self._settler.give_back(lease_id)
                return
            for leased in lease.results if lease else ():
                message = message_of(leased, lease_id, self._inbox.name)
                await self._process(message, Hold(self._inbox, message, self._settings, asked_at))

    # ---- leasing ---------------------------------------------------------------------------------

    async def _lease(self, lease_id: str) -> Lease | None:
        """Lease one message under this id, however often the request has to be repeated."""
        failures = 0
        while not self._stopping.is_set():
            asking = asyncio.ensure_future(self._ask(lease_id))
            if not await self._before(self._stopping, asking):
                await self._withdraw(asking, lease_id)
                return None
            try:
                return asking.result()
            except TriggersError as error:
                pause = _pause_after(error, failures)
            failures += 1
            await self._before(self._stopping, asyncio.ensure_future(asyncio.sleep(pause)))
        if failures:
            await self._settler.give_back(lease_id)
        return None

    async def _ask(self, lease_id: str) -> Lease:
        named: dict[str, Any] = {"consumer": self._settings.name} if self._settings.name else {}
        return await self._inbox.lease(
            lease_id=lease_id,
            lease_limit=1,
            lease_seconds=self._settings.lease_seconds,
            wait_seconds=_WAIT_SECONDS,
            **named,
        )

    async def _withdraw(self, asking: asyncio.Future[Lease], lease_id: str) -> None:
        """End a long poll, and release what it may have leased at the same moment."""
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await self._settler.give_back(lease_id)

    # ---- handling --------------------------------------------------------------------------------

    async def _process(self, message: Message, hold: Hold) -> None:
        if not await self._confirmed(hold):
            await self._settler.give_back(message.lease_id)
            return
        beat = asyncio.ensure_future(hold.keep())
        try:
            settlement = await self._handled(message, beat)
            if settlement is not None:
                await self._settler.settle(message, settlement, beat)
        finally:
            beat.cancel()

    async def _confirmed(self, hold: Hold) -> bool:
        """Whether the lease is held, and the consumer does not stop."""
        confirming = asyncio.ensure_future(hold.confirm())
        try:
            return await self._before(self._stopping, confirming) and confirming.result()
        finally:
            confirming.cancel()

    async def _handled(self, message: Message, beat: asyncio.Future[None]) -> Settlement | None:
        """Have a message handled. Returns None if its lease was lost meanwhile."""
        if message.lease_count > self._settings.max_attempts:
            return Reject(f"Leased {message.lease_count} times, and never finished")
        call = self._calls.begin(message)
        given_up = asyncio.ensure_future(self._giving_up.wait())
        try:
            await asyncio.wait({call, beat, given_up}, return_when=asyncio.FIRST_COMPLETED)
            # A handler that was told of the loss may have returned because of it, and not be finished.
            if call.done() and not message.lease_lost.is_set():
                return self._judge(message, call)
            message.lease_lost.set()
            self._calls.cancel(call)
            if not given_up.done():
                await asyncio.wait({call, given_up}, return_when=asyncio.FIRST_COMPLETED)
                return None
            await asyncio.wait({call}, timeout=_LAST_SECONDS)
            return Release(counted=False)
        finally:
            given_up.cancel()
            if call.done() and not call.cancelled():
                call.exception()  # asyncio complains of one that nobody has seen

    def _judge(self, message: Message, call: asyncio.Future[Any]) -> Settlement:
        """Choose how to settle a message whose handler has ended."""
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        if message.rejection is not None:
            return Reject(message.rejection)
        if error is None:
            return Ack()
        log.error("The handler of message %s raised.", message.id, exc_info=error)
        if message.lease_count >= self._settings.max_attempts:
            return Reject(as_reason(text_of(error)))
        return Release(delay_seconds(message.lease_count))

    async def _before(self, event: asyncio.Event, work: asyncio.Future[Any]) -> bool:
        """Wait for work or an event, and return whether the work has ended."""
        told = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
        return work.done()


def _pause_after(error: TriggersError, failures: int) -> float:
    """How long to wait after a lease that failed. An error that will not go away is raised."""
    if isinstance(error, Refused):
        if error.code != "inbox-paused":
            raise error
        return _PAUSED_SECONDS
    log.warning("No lease: %s", error)
    longest = 60.0 if isinstance(error, RateLimited) else 2.0
    return min(pause_seconds(error, failures), longest)
