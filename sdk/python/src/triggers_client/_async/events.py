"""Events: send, look up, follow."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from triggers_client._async.resource import AsyncPages, AsyncResource
from triggers_client._async.sending import AsyncBatchSender
from triggers_client._async.streams import AsyncStream
from triggers_client.calls import Call, segment
from triggers_client.fields import AttemptQuery, EventFields, EventQuery, NewEvent
from triggers_client.models import (
    Attempt,
    Event,
    EventDeliveryList,
    EventDetail,
    EventDryRun,
    SentEvent,
    Unmatched,
)
from triggers_client.reports import SendReport

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncEvents(AsyncResource):
    """The events of the organisation."""

    async def send(self, type: str, payload: Any, **fields: Unpack[EventFields]) -> SentEvent:  # noqa: A002
        """Send one event. It is stored when this returns.

        Without a `dedup_id` one is made, so that a request whose answer was lost can be repeated: it stores
        no second event.

        Raises:
            Refused: among others with the code `dedup-conflict`, if another event has the `dedup_id`.
        """
        body = {"type": type, "payload": payload, "dedup_id": uuid.uuid4().hex, **fields}
        return await self._call(SentEvent, "POST", "/v1/events", body=body, repeatable=True)

    async def send_many(self, events: Iterable[NewEvent | Mapping[str, Any]]) -> SendReport:
        """Send any number of events, in batches, and report the outcome of each in its order.

        One bad event spoils only itself, and this raises no error of the service: look at the report, or call
        its `raise_for_failures()`.
        """
        return await AsyncBatchSender(self._transport).send(events)

    async def get(self, event_id: str, *, explain: bool = False) -> EventDetail:
        """One event with its payload and its deliveries. With `explain`, why others got none."""
        query = {"explain": "1" if explain else None}
        return await self._call(EventDetail, "GET", f"/v1/events/{segment(event_id)}", query=query)

    async def explain(self, event_id: str) -> EventDetail:
        """One event, with the reasons why each subscription has a delivery or none."""
        return await self.get(event_id, explain=True)

    async def payload(self, event_id: str) -> bytes:
        """The payload, byte for byte as it was sent."""
        call = Call("GET", f"/v1/events/{segment(event_id)}/payload")
        return (await self._transport.call(call)).content

    def list(self, **query: Unpack[EventQuery]) -> AsyncPages[Event]:
        """List events without their payloads, newest first."""
        return self._pages(Event, "/v1/events", query, "events")

    def attempts(self, event_id: str, **query: Unpack[AttemptQuery]) -> AsyncPages[Attempt]:
        """List the attempts to deliver an event."""
        return self._pages(Attempt, f"/v1/events/{segment(event_id)}/attempts", query)

    async def deliveries(self, event_id: str, *, limit: int | None = None) -> EventDeliveryList:
        """The deliveries of an event, of every generation."""
        path = f"/v1/events/{segment(event_id)}/deliveries"
        return await self._call(EventDeliveryList, "GET", path, query={"limit": limit})

    async def unmatched(self, event_id: str) -> Unmatched:
        """The subscriptions that have no delivery of an event, with the reasons."""
        return await self._call(Unmatched, "GET", f"/v1/events/{segment(event_id)}/unmatched")

    async def dry_run(self, type: str, payload: Any, **fields: Unpack[EventFields]) -> EventDryRun:  # noqa: A002
        """The subscriptions and inboxes that would get this event. Nothing is stored."""
        body = {"type": type, "payload": payload, **fields}
        return await self._call(EventDryRun, "POST", "/v1/events/dry-run", body=body, repeatable=True)

    def stream(self, *, type: str | None = None, kind: str | None = None) -> AsyncStream:  # noqa: A002
        """Follow what happens: accepted events, attempts, dead letters. It is not a log."""
        return AsyncStream(self._transport, Call("GET", "/v1/stream", query={"type": type, "kind": kind}))
