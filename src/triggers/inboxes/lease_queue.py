"""Leases with a long poll. Only a few of the requests that wait for an inbox query it at the same time.

If all of them queried it after every hint, two hundred consumers would query the database two hundred
times for one message, and acknowledgements would find no free connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from triggers.domain import SubscriptionStatus
from triggers.errors import Conflict, Overloaded
from triggers.fairness.room import Room
from triggers.http.request import Request
from triggers.inboxes import settlement_store
from triggers.inboxes import store as inbox_store
from triggers.inboxes.message_body import LeaseBody
from triggers.inboxes.settlement_store import LeasedMessages
from triggers.inboxes.store import Inbox, Message
from triggers.postgres.database import Database
from triggers.wakeups.wakeup import Wakeup

AT_ONCE = 4
MAX_WAITING = 10_000
"""Maximum number of requests that wait for messages at once, which organisations share as `Room` says."""
POLL_SECONDS = 1.0
"""Interval at which a long poll looks for messages without a hint. Hints only shorten the wait."""


class LeaseQueue:
    """The requests of this process that lease messages."""

    def __init__(self, database: Database, wakeup: Wakeup, stopping: Callable[[], bool]) -> None:
        self._database = database
        self._wakeup = wakeup
        self._stopping = stopping
        self._positions = inbox_store.Positions()
        self._room = Room(MAX_WAITING)
        self._lines: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    async def lease(
        self, request: Request, inbox: Inbox, asked: LeaseBody, lease_id: UUID
    ) -> tuple[Inbox, list[Message]]:
        """Claim messages for a lease. If there are none, wait as long as the request asks.

        It claims, and waits in line. Then it listens for hints before it claims again, so no hint between
        two claims is lost. The inbox may change meanwhile, so its latest known state is returned.

        If the caller closes its side of the connection, the wait ends, and nothing is leased. An interrupted
        consumer often releases its messages at the same moment. The request that waits would lease them
        again, although nobody reads its answer. A request that does not wait is answered even then, because
        its caller may have closed only the side on which it sends. A lease whose id the caller chose is not
        released after its commit, because a repetition of the request may have been answered with it.

        Raises:
            Conflict: the inbox is being deleted.
            Overloaded: the organisation already has its share of the requests that may wait here.
        """
        refuse_deleting(inbox)
        if not asked.wait_seconds:
            return inbox, await self._claim(inbox, asked, lease_id, gone=None)
        gone: asyncio.Future[Any] = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({gone}, timeout=0)  # it may be known already
            if gone.done():
                return inbox, []
            messages = await self._claim(inbox, asked, lease_id, gone)
            if not messages and inbox.status != SubscriptionStatus.PAUSED:
                if not self._room.take(inbox.org_id):
                    raise Overloaded("Too many consumers are waiting for messages at once. Try again.")
                try:
                    inbox, messages = await self._wait_in_line(gone, inbox, asked, lease_id)
                finally:
                    self._room.give_back(inbox.org_id)
            # No other request was answered with a lease whose id the service chose.
            if messages and gone.done() and asked.lease_id is None:
                unseen = LeasedMessages(lease_id)
                await settlement_store.release(self._database, inbox, unseen, 0, counted=False)
                self._wakeup.give({inbox.org_id})
                return inbox, []
            return inbox, messages
        except inbox_store.NobodyWaits:
            self._wakeup.give({inbox.org_id})
            return inbox, []
        finally:
            gone.cancel()

    async def _wait_in_line(
        self, gone: asyncio.Future[Any], inbox: Inbox, asked: LeaseBody, lease_id: UUID
    ) -> tuple[Inbox, list[Message]]:
        deadline = asyncio.get_running_loop().time() + asked.wait_seconds
        line = self._line(inbox.id)
        turn: asyncio.Future[Any] = asyncio.ensure_future(line.acquire())
        try:
            await asyncio.wait({turn, gone}, timeout=asked.wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                return inbox, []  # those in front looked all the time
            return await self._look_until(deadline, gone, inbox, asked, lease_id)
        finally:
            if turn.done():
                line.release()
            else:
                turn.cancel()

    async def _look_until(
        self,
        deadline: float,
        gone: asyncio.Future[Any],
        inbox: Inbox,
        asked: LeaseBody,
        lease_id: UUID,
    ) -> tuple[Inbox, list[Message]]:
        with self._wakeup.waiting(inbox.org_id) as hint:
            while not gone.done():
                hint.clear()
                messages = await self._claim(inbox, asked, lease_id, gone)
                if messages:
                    return inbox, messages
                inbox = await inbox_store.find(self._database, inbox.org_id, str(inbox.id))
                refuse_deleting(inbox)
                if inbox.status == SubscriptionStatus.PAUSED:  # it gives what it had, and waits for nothing
                    return inbox, await self._claim(inbox, asked, lease_id, gone)
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or self._stopping():
                    return inbox, []
                hinted = asyncio.ensure_future(hint.wait())
                await asyncio.wait(
                    {hinted, gone}, timeout=min(left, POLL_SECONDS), return_when=asyncio.FIRST_COMPLETED
                )
                hinted.cancel()
        return inbox, []

    async def _claim(
        self, inbox: Inbox, asked: LeaseBody, lease_id: UUID, gone: asyncio.Future[Any] | None
    ) -> list[Message]:
        seconds = asked.lease_seconds or inbox.default_lease_seconds
        wanted = inbox_store.Claim(lease_id, seconds, asked.lease_limit, asked.consumer)
        if asked.lease_id is None:
            return await inbox_store.claim(self._database, self._positions, inbox, wanted)
        return await inbox_store.claim_or_repeat(
            self._database, self._positions, inbox, wanted, lambda: gone is None or not gone.done()
        )

    def _line(self, inbox_id: UUID) -> asyncio.Semaphore:
        """The requests that wait for one inbox. The one that has acquired this looks for messages."""
        line = self._lines.get(inbox_id)
        if line is None:
            line = self._lines[inbox_id] = asyncio.Semaphore(AT_ONCE)
        return line


def refuse_deleting(inbox: Inbox) -> None:
    """Raise Conflict for an inbox that is being deleted."""
    if inbox.status == SubscriptionStatus.DELETING:
        raise Conflict("The inbox is being deleted.")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
