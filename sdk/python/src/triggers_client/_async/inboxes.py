"""Inboxes: settings, and the default inbox without leases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from triggers_client._async.resource import AsyncPages, AsyncResource
from triggers_client.calls import segment
from triggers_client.fields import DefaultInboxQuery, InboxChanges, InboxFields, InboxQuery
from triggers_client.models import Acknowledgement, Inbox, InboxEvent

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AsyncInboxes(AsyncResource):
    """The inboxes of the organisation. An inbox is named by its key or its id."""

    async def create(self, key: str, **fields: Unpack[InboxFields]) -> Inbox:
        """Create an inbox. It collects the events that are accepted from now on."""
        return await self._call(Inbox, "POST", "/v1/inboxes", body={"key": key, **fields})

    async def ensure(self, key: str, **fields: Unpack[InboxFields]) -> Inbox:
        """Create an inbox unless one with this key exists.

        Raises:
            Refused: one with the key exists, and has other settings.
        """
        return await self._call(Inbox, "PUT", "/v1/inboxes", body={"key": key, **fields})

    def list(self, **query: Unpack[InboxQuery]) -> AsyncPages[Inbox]:
        """List inboxes in the order of their creation."""
        counted = "1" if query.get("backlog") else None
        return self._pages(Inbox, "/v1/inboxes", {**query, "backlog": counted})

    async def get(self, inbox: str, *, backlog: bool = False) -> Inbox:
        """One inbox. With `backlog` its messages are counted."""
        query = {"backlog": "1" if backlog else None}
        return await self._call(Inbox, "GET", f"/v1/inboxes/{segment(inbox)}", query=query)

    async def change(self, inbox: str, **changes: Unpack[InboxChanges]) -> Inbox:
        """Change settings. What is not given stays as it is."""
        return await self._call(Inbox, "PATCH", f"/v1/inboxes/{segment(inbox)}", body=changes)

    async def delete(self, inbox: str) -> Inbox:
        """Delete an inbox. Its messages are cancelled."""
        return await self._call(Inbox, "DELETE", f"/v1/inboxes/{segment(inbox)}")

    async def pause(self, inbox: str) -> Inbox:
        """Keep new messages until `resume`."""
        path = f"/v1/inboxes/{segment(inbox)}/pause"
        return await self._call(Inbox, "POST", path, repeatable=True)

    async def resume(self, inbox: str) -> Inbox:
        """Lease new messages again after `pause`."""
        path = f"/v1/inboxes/{segment(inbox)}/resume"
        return await self._call(Inbox, "POST", path, repeatable=True)

    def unacknowledged(self, **query: Unpack[DefaultInboxQuery]) -> AsyncPages[InboxEvent]:
        """List the events of the inbox `default` that are not acknowledged. Nothing is leased."""
        return self._pages(InboxEvent, "/v1/inbox", query, "events")

    async def acknowledge(self, event_ids: Sequence[str]) -> Acknowledgement:
        """Acknowledge events of the inbox `default` without a lease, at most 1,000."""
        body = {"event_ids": [*event_ids]}
        return await self._call(Acknowledgement, "POST", "/v1/ack", body=body, repeatable=True)
