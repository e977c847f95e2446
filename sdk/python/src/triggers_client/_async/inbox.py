"""One inbox: messages, leases, and the consumer."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from triggers_client._async.resource import AsyncPages, AsyncResource
from triggers_client._async.streams import AsyncStream
from triggers_client._async.transport import AsyncTransport
from triggers_client.calls import Call, segment
from triggers_client.consuming.async_consumer import AsyncConsumer, AsyncHandler
from triggers_client.consuming.settings import ConsumerOptions, ConsumerSettings
from triggers_client.fields import (
    LeaseFields,
    MessageQuery,
    Page,
    RedriveFields,
    ReleaseFields,
    SettleFields,
)
from triggers_client.models import (
    Acked,
    Extended,
    HeldLease,
    Lease,
    ListedMessage,
    Redriven,
    Rejected,
    Released,
    Revoked,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_ANSWER_SECONDS = 15.0


class AsyncInboxHandle(AsyncResource):
    """The messages of one inbox, which is named by its key or its id."""

    def __init__(self, transport: AsyncTransport, name: str) -> None:
        super().__init__(transport)
        self.name = name
        self._path = f"/v1/inboxes/{segment(name)}"

    def consumer(self, **options: Unpack[ConsumerOptions]) -> Callable[[AsyncHandler], AsyncConsumer]:
        """Make a function the handler of this inbox's messages; `run()` of the result consumes them.

        A message is acknowledged when the handler returns. When it raises, the message is released for 1, 2,
        4 … 300 seconds, and rejected after `max_attempts` leases.
        """
        settings = ConsumerSettings(**options)
        return lambda handler: AsyncConsumer(self._transport.options, self.name, settings, handler)

    def messages(self, **query: Unpack[MessageQuery]) -> AsyncPages[ListedMessage]:
        """List messages without their payloads, oldest first. Nothing is leased."""
        return self._pages(ListedMessage, f"{self._path}/messages", query)

    def leases(self, **query: Unpack[Page]) -> AsyncPages[HeldLease]:
        """List the leases that have not ended."""
        return self._pages(HeldLease, f"{self._path}/leases", query)

    async def lease(self, **fields: Unpack[LeaseFields]) -> Lease:
        """Lease messages, oldest first. With `wait_seconds` the service waits for one.

        If no message is there, the `lease_id` of the answer is None.
        """
        body: dict[str, Any] = {"lease_id": str(uuid.uuid4()), **fields}
        seconds = fields.get("wait_seconds", 0) + _ANSWER_SECONDS
        path = f"{self._path}/messages/lease"
        return await self._call(Lease, "POST", path, body=body, timeout=seconds, repeatable=True)

    async def ack(self, lease_id: str, **fields: Unpack[SettleFields]) -> Acked:
        """Acknowledge messages of a lease.

        Raises:
            Refused: with the code `lease-over`, if the lease has ended.
        """
        body = {"lease_id": lease_id, **fields}
        return await self._call(Acked, "POST", f"{self._path}/messages/ack", body=body, repeatable=True)

    async def release(self, lease_id: str, **fields: Unpack[ReleaseFields]) -> Released:
        """Give messages of a lease back, at once or after `delay_seconds`. Raises as `ack`."""
        body = {"lease_id": lease_id, **fields}
        return await self._call(Released, "POST", f"{self._path}/messages/release", body=body)

    async def reject(self, lease_id: str, reason: str, **fields: Unpack[SettleFields]) -> Rejected:
        """Quarantine messages of a lease, until somebody re-drives them. Raises as `ack`."""
        body = {"lease_id": lease_id, "reason": reason, **fields}
        return await self._call(Rejected, "POST", f"{self._path}/messages/reject", body=body)

    async def extend(self, lease_id: str, *, lease_seconds: int | None = None) -> Extended:
        """Let a lease end so many seconds from now. Raises as `ack`."""
        given = {} if lease_seconds is None else {"lease_seconds": lease_seconds}
        body = {"lease_id": lease_id, **given}
        return await self._call(Extended, "POST", f"{self._path}/messages/extend", body=body, repeatable=True)

    async def revoke(self, lease_id: str) -> Revoked:
        """End a lease of another consumer. Its messages are available again."""
        body = {"lease_id": lease_id}
        return await self._call(Revoked, "POST", f"{self._path}/messages/revoke", body=body)

    async def redrive(self, **fields: Unpack[RedriveFields]) -> Redriven:
        """Make quarantined messages available again."""
        path = f"{self._path}/messages/redrive"
        # Without ids, a repetition would make the next 1,000 messages available.
        return await self._call(Redriven, "POST", path, body=fields, repeatable="message_ids" in fields)

    def watch(self) -> AsyncStream:
        """Follow how many messages become available. Nothing is leased."""
        return AsyncStream(self._transport, Call("GET", f"{self._path}/events"))
