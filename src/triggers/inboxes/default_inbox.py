"""Short routes of the default inbox: listing and acknowledging events."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers import observability
from triggers.domain import DEFAULT_INBOX, Caller, Scope, minted_at, parse_id
from triggers.errors import NotFound
from triggers.events import store as event_store
from triggers.http.route import Answer, Route
from triggers.http.views import (
    FIRST_PAGE,
    Order,
    PageQuery,
    Timestamp,
    make_cursor,
    page_request,
    raw,
)
from triggers.inboxes import settlement_store
from triggers.inboxes import store as inbox_store
from triggers.postgres.database import Database

MessageStatus = (
    Annotated[
        str,
        Meta(
            description="`available`, `leased` or `quarantined`. Default: both available and leased.",
            pattern="^(available|leased|quarantined)$",
        ),
    ]
    | None
)


class InboxEvent(msgspec.Struct, kw_only=True):
    """An event in the default inbox that is not acknowledged."""

    id: UUID
    type: str
    payload: Any
    created_at: Timestamp
    delivery_status: str
    lease_count: int


class InboxPage(msgspec.Struct):
    """A page of events in the default inbox."""

    events: list[InboxEvent]
    next_cursor: str | None


class AckBody(msgspec.Struct, forbid_unknown_fields=True):
    """The events to acknowledge."""

    event_ids: Annotated[list[str], Meta(max_length=1000, description="Ids of events, at most 1,000.")]


class AckResult(msgspec.Struct):
    """An id and its outcome: `acknowledged`, `already_acknowledged`, or `failed` if it is not there."""

    id: str
    status: str


class AckAnswer(msgspec.Struct):
    """The number of ids for each outcome, and the outcome of each id in the order of the request."""

    acknowledged: int
    already_acknowledged: int
    failed: int
    results: list[AckResult]


class DefaultInboxRoutes:
    """Handlers of the short URLs of the default inbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_inbox(
        self,
        caller: Caller,
        status: MessageStatus = None,
        order: Order = "asc",
        asked: PageQuery = FIRST_PAGE,
    ) -> InboxPage:
        """List the events of the default inbox that are not acknowledged, oldest first.

        Nothing is changed. Use `POST /v1/inboxes/default/messages/lease` to lease messages. A page has at
        most 8 MiB of payload, so it can hold fewer than `limit` events. The list ends when `next_cursor` is
        null.
        """
        try:
            inbox = await inbox_store.find(self._database, caller.org_id, DEFAULT_INBOX)
        except NotFound:  # not an empty list, so that the caller knows that no events will come
            raise NotFound(
                "The default inbox was deleted. `PUT /v1/inboxes` with the key `default` creates it again."
            ) from None
        page = await inbox_store.messages(
            self._database,
            inbox,
            page_request(asked),
            status=status,
            newest_first=order == "desc",
        )
        payloads = await event_store.payloads(
            self._database, caller.org_id, [message.event_id for message in page.messages]
        )
        return InboxPage(
            [
                InboxEvent(
                    id=message.event_id,
                    type=payloads[message.event_id].type,
                    payload=raw(payloads[message.event_id].payload),
                    created_at=minted_at(message.event_id),
                    delivery_status=message.status,
                    lease_count=message.lease_count,
                )
                for message in page.messages
                if message.event_id in payloads
            ],
            make_cursor(page.last),
        )

    async def acknowledge(self, caller: Caller, data: AckBody) -> AckAnswer:
        """Acknowledge events of the default inbox by id, leased or not.

        The answer is always 200, and the request can be repeated: an id that was acknowledged before is
        reported as such. Leased
        events are removed from their lease. If the default inbox was deleted, every id is `failed`.
        """
        ids = {text: parse_id(text) for text in data.event_ids}
        try:
            inbox = await inbox_store.find(self._database, caller.org_id, DEFAULT_INBOX)
        except NotFound:
            outcomes = {}
        else:
            outcomes = await settlement_store.acknowledge(
                self._database, inbox, [event_id for event_id in ids.values() if event_id is not None]
            )
        results = []
        for text in data.event_ids:
            event_id = ids[text]
            results.append(
                AckResult(text, "failed" if event_id is None else outcomes.get(event_id, "failed"))
            )
            if event_id is not None and results[-1].status == "acknowledged":
                outcomes[event_id] = "already_acknowledged"  # if it is named again
        counts = dict.fromkeys(("acknowledged", "already_acknowledged", "failed"), 0)
        for result in results:
            counts[result.status] += 1
        observability.acknowledged_total.inc(counts["acknowledged"])
        return AckAnswer(**counts, results=results)


ROUTES = (
    Route(
        "GET",
        "/v1/inbox",
        DefaultInboxRoutes.list_inbox,
        Scope.INBOX,
        answers=(Answer(404, "The default inbox was deleted."),),
        also=("/inbox",),
    ),
    Route(
        "POST",
        "/v1/ack",
        DefaultInboxRoutes.acknowledge,
        Scope.INBOX,
        also=("/v1/inbox/ack", "/ack", "/inbox/ack"),
    ),
)
