"""The inbox of a listener. It expires soon after the listener has stopped renewing it."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import string
import time
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from uuid import UUID

import httpx
import msgspec

from triggers.cli.listening.service_link import ServiceLink
from triggers.cli.service import checked, decode, members_of, segment
from triggers.errors import OperatorError

EXPIRY_SECONDS: Final = 120
RENEWAL_SECONDS: Final = 30
"""Several renewals may fail before the inbox expires."""
LEASE_SECONDS: Final = 60
"""Longer than a lease may be waited for, and the receiver then take to answer."""
_WAIT_SECONDS: Final = 20
_ALPHABET: Final = string.ascii_lowercase + string.digits


class WantedEvents(NamedTuple):
    """The events that a listener asks for. None: events of all types, or without a filter."""

    types: list[str] | None
    filter: str | None


class Attributes(msgspec.Struct):
    """The attributes of a message that a listener needs."""

    lease_count: int
    event_type: str | None


class LeasedEvent(msgspec.Struct):
    """A leased message. The payload keeps the bytes that were sent."""

    id: UUID
    created_at: str
    message_attributes: Attributes
    payload: msgspec.Raw


class LeaseAnswer(msgspec.Struct):
    """A lease of one message at most."""

    results: list[LeasedEvent]


class HeldMessage(NamedTuple):
    """A message and its lease."""

    lease_id: UUID
    message: LeasedEvent
    asked_at: float
    """Monotonic time before the lease was asked for the first time. It cannot have begun earlier."""

    @property
    def left_seconds(self) -> float:
        """For how long the lease certainly lasts."""
        return self.asked_at + LEASE_SECONDS - time.monotonic()


class TemporaryInbox:
    """An inbox that exists while the listener runs. If it expires during an outage, it is made again."""

    def __init__(self, link: ServiceLink, wanted: WantedEvents, tell: Callable[[str], None]) -> None:
        self.key = _new_key()
        self.id = ""
        self.created_at = ""
        self._link = link
        self._tell = tell
        self._body = {
            "key": self.key,
            "event_types": wanted.types,
            "filter": wanted.filter,
            "expires_in_seconds": EXPIRY_SECONDS,
        }
        self._path = f"/v1/inboxes/{segment(self.key)}"
        self._making = asyncio.Lock()

    async def create(self) -> None:
        """Make the inbox.

        Raises:
            OperatorError: the service does not answer, or refuses the types, the filter or the key.
        """
        self._note(await self._link.ask_once("PUT", "/v1/inboxes", self._body))

    async def renew(self) -> None:
        """Let it expire later. If it has expired or was deleted, it is made again."""
        async with self._making:
            before = self.id
            self._note(checked(await self._link.ask("PUT", "/v1/inboxes", self._body)))
        if self.id != before:
            self._tell("The inbox had expired. A new one collects events from now on.")

    async def keep(self) -> None:
        """Renew it until this is cancelled."""
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            await self.renew()

    async def lease(self) -> HeldMessage | None:
        """Lease one message. Waits for one for a while; None if none came.

        A request whose answer was lost is repeated with the same id of the lease, so it leases nothing twice.
        """
        lease_id, asked_at = uuid.uuid4(), time.monotonic()
        body = {
            "lease_id": str(lease_id),
            "lease_limit": 1,
            "lease_seconds": LEASE_SECONDS,
            "wait_seconds": _WAIT_SECONDS,
            "consumer": "triggers listen",
        }
        answer = await self._link.ask(
            "POST", f"{self._path}/messages/lease", body, wait_seconds=_WAIT_SECONDS
        )
        match answer.status_code:
            case 404:
                await self.renew()
                return None
            case 409:  # paused by somebody
                await asyncio.sleep(1)
                return None
        found = decode(checked(answer), LeaseAnswer).results
        return HeldMessage(lease_id, found[0], asked_at) if found else None

    async def settle(self, held: HeldMessage, verb: str, **fields: Any) -> bool:
        """Acknowledge, release or reject a message. False if the lease or the inbox is gone."""
        answer = await self._link.ask(
            "POST", f"{self._path}/messages/{verb}", {"lease_id": str(held.lease_id), **fields}
        )
        if answer.status_code in (404, 409):
            return False
        checked(answer)
        return True

    async def extend(self, held: HeldMessage) -> bool:
        """Extend the lease of a message. False if it is gone."""
        return await self.settle(held, "extend", lease_seconds=LEASE_SECONDS)

    async def replay(self, since: str) -> None:
        """Have past events delivered too: those that were accepted from `since` until the inbox was made.

        Raises:
            OperatorError: the API key lacks the scope `subscriptions`, or the time is wrong.
        """
        body = {
            "subscription_id": self.id,
            "since": since,
            "until": self.created_at,
            "only": "all",
            "rate": 1000,
        }
        await self._link.ask_once("POST", "/v1/replays", body)

    async def delete(self) -> bool:
        """Delete it. False if the service did not confirm it; then it expires by itself."""
        try:
            await self._link.ask_once("DELETE", self._path, seconds=5)
        except OperatorError as error:
            return error.facts.get("status") == 404
        return True

    def _note(self, answer: httpx.Response) -> None:
        members = members_of(answer)
        self.id, self.created_at = str(members["id"]), str(members["created_at"])


def _new_key() -> str:
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().partition(".")[0])[:60].strip("-") or "host"
    return f"listen-{host}-{''.join(secrets.choice(_ALPHABET) for _ in range(6))}"
