"""Messages of an inbox: looked at, leased, acknowledged, given back, re-driven."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response
from msgspec import Meta

from triggers import observability
from triggers.domain import Caller, SubscriptionStatus, minted_at, parse_id
from triggers.errors import Conflict, Invalid, Paused
from triggers.events import store as event_store
from triggers.http.views import (
    Cursor,
    Limit,
    Timestamp,
    make_cursor,
    optional_timestamp,
    raw,
    read_cursor,
)
from triggers.inboxes import store as inbox_store
from triggers.inboxes.default_inbox import MessageStatus
from triggers.inboxes.lease_queue import line_of
from triggers.inboxes.store import Inbox, Message
from triggers.node.services import Services

POLL_SECONDS = 1.0
"""How often a long poll looks without a hint; hints only shorten the wait."""
REDRIVE_LIMIT = 1_000


class LeaseBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What to lease. `lease_id` may be chosen by the caller: repeating it returns the same lease."""

    lease_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300
    lease_limit: Annotated[int, Meta(ge=1, le=1000)] = 10
    wait_seconds: Annotated[float, Meta(ge=0, le=20)] = 0
    lease_id: UUID | None = None


class SettleBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which messages of a lease; left out: all of them."""

    lease_id: str
    message_ids: Annotated[list[str], Meta(max_length=1000)] | None = None


class ReleaseBody(SettleBody, forbid_unknown_fields=True, kw_only=True):
    """Likewise, and after how long they are available again."""

    delay_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0


class ExtendBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How long from now the lease shall last."""

    lease_id: str
    lease_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300


class RedriveBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which quarantined messages; left out: the oldest thousand."""

    message_ids: Annotated[list[str], Meta(max_length=1000)] | None = None
    cursor: (
        Annotated[
            str,
            Meta(max_length=100, description="`next_cursor` of the answer before. Not with `message_ids`."),
        ]
        | None
    ) = None


class MessageAttributes(msgspec.Struct, kw_only=True):
    """What is known of a message beside its payload."""

    lease_count: int
    event_type: str | None
    error_message: str | None = None
    possible_duplicate_data: bool


class MessageView(msgspec.Struct, kw_only=True):
    """A message, without its payload."""

    id: UUID
    created_at: Timestamp
    status: str
    message_attributes: MessageAttributes


class LeasedMessage(MessageView, kw_only=True):
    """A message that the caller holds."""

    payload: Any


class InboxAttributes(msgspec.Struct):
    """The state of the inbox at the lease."""

    status: str
    paused_reason: str | None


class Lease(msgspec.Struct, kw_only=True):
    """A hold on messages until `leased_until`; nulls and no results when nothing is there."""

    lease_id: UUID | None
    leased_until: Timestamp | None
    results: list[LeasedMessage]
    inbox_attributes: InboxAttributes


class MessageList(msgspec.Struct):
    """Part of the list of messages."""

    data: list[MessageView]
    next_cursor: str | None


class SettledMessage(msgspec.Struct):
    """A message that a lease let go of."""

    id: UUID
    status: str


class Acked(msgspec.Struct):
    """What was settled; null and none when the lease is not alive or held none of them."""

    acked_id: UUID | None
    results: list[SettledMessage]


class Released(msgspec.Struct):
    """What was given back; null and none when the lease is not alive or held none of them."""

    released_id: UUID | None
    results: list[SettledMessage]


class Extended(msgspec.Struct):
    """When the lease ends now; nulls when it is not alive."""

    lease_id: UUID | None
    leased_until: Timestamp | None


class Redriven(msgspec.Struct):
    """What is available again."""

    results: list[SettledMessage]
    next_cursor: str | None


# ---- routes ---------------------------------------------------------------------------------------


async def list_messages(
    caller: Caller,
    services: Services,
    inbox: str,
    status: MessageStatus = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> MessageList:
    """List messages without their payloads, oldest first. Changes nothing."""
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    page = await inbox_store.messages(
        services.database, found, status=status, newest_first=False, after=read_cursor(cursor), limit=limit
    )
    types = await event_store.types(
        services.database, caller.org_id, [message.event_id for message in page.messages]
    )
    return MessageList(
        [MessageView(**_message(message, types.get(message.event_id))) for message in page.messages],
        make_cursor(page.last),
    )


async def lease_messages(
    request: Request[Any, Any, Any],
    caller: Caller,
    services: Services,
    inbox: str,
    data: LeaseBody | None = None,
) -> Response[Lease]:
    """Lease due messages, oldest first: 201 with a lease, 200 with none when nothing is there.

    With `wait_seconds` the answer comes as soon as something is, or as the inbox is paused or deleted.
    Messages not acknowledged when the lease ends are available again.
    """
    asked = data or LeaseBody()
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    lease_id = asked.lease_id or services.clock.mint()
    found, messages = await _lease_waiting(request, services, found, asked, lease_id)
    attributes = InboxAttributes(found.status, found.paused_reason)
    if not messages:
        if found.status == SubscriptionStatus.PAUSED and not await inbox_store.holds_any(
            services.database, found
        ):
            raise Paused
        return Response(
            Lease(lease_id=None, leased_until=None, results=[], inbox_attributes=attributes), status_code=200
        )
    observability.leased_total.inc(len(messages))
    payloads = await event_store.payloads(services.database, caller.org_id, [m.event_id for m in messages])
    return Response(
        Lease(
            lease_id=lease_id,
            leased_until=optional_timestamp(messages[0].leased_until),
            results=[
                LeasedMessage(
                    **_message(message, payloads[message.event_id].type),
                    payload=raw(payloads[message.event_id].payload),
                )
                for message in messages
                if message.event_id in payloads
            ],
            inbox_attributes=attributes,
        ),
        status_code=201,
    )


async def ack_messages(caller: Caller, services: Services, inbox: str, data: SettleBody) -> Response[Acked]:
    """Acknowledge messages of a lease, all of them unless told which. A stale lease settles nothing."""
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    lease_id = parse_id(data.lease_id)
    settled: list[Message] = []
    if lease_id is not None:
        settled = await inbox_store.acknowledge_lease(
            services.database, found, lease_id, _ids(data.message_ids)
        )
    observability.acknowledged_total.inc(len(settled))
    return Response(
        Acked(lease_id if settled else None, _settled(settled)), status_code=201 if settled else 200
    )


async def release_messages(
    caller: Caller, services: Services, inbox: str, data: ReleaseBody
) -> Response[Released]:
    """Give messages of a lease back, all of them unless told which. Does not refund the lease count."""
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    lease_id = parse_id(data.lease_id)
    released: list[Message] = []
    if lease_id is not None:
        released = await inbox_store.release(
            services.database, found, lease_id, _ids(data.message_ids), data.delay_seconds
        )
    if released and not data.delay_seconds:
        services.wakeup.give({caller.org_id})
    return Response(
        Released(lease_id if released else None, _settled(released)), status_code=201 if released else 200
    )


async def extend_lease(
    caller: Caller, services: Services, inbox: str, data: ExtendBody
) -> Response[Extended]:
    """Let a lease last longer, or end sooner."""
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    lease_id = parse_id(data.lease_id)
    held: list[Message] = []
    if lease_id is not None:
        held = await inbox_store.extend(services.database, found, lease_id, data.lease_seconds)
    if not held:
        return Response(Extended(None, None), status_code=200)
    return Response(Extended(lease_id, optional_timestamp(held[0].leased_until)), status_code=201)


async def redrive_messages(
    caller: Caller, services: Services, inbox: str, data: RedriveBody | None = None
) -> Redriven:
    """Make quarantined messages available again, with a lease count that begins anew.

    Without ids the oldest thousand; call again with `next_cursor` until that is null.
    """
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    _refuse_deleting(found)
    data = data or RedriveBody()
    ids, start = _ids(data.message_ids), read_cursor(data.cursor)
    if ids is not None and start is not None:
        raise Invalid("Goes on where no ids were named.", pointer="/cursor")
    redriven = await inbox_store.redrive(services.database, found, ids, start, REDRIVE_LIMIT)
    if redriven:
        services.wakeup.give({caller.org_id})
    more = ids is None and len(redriven) == REDRIVE_LIMIT
    return Redriven(
        [SettledMessage(event_id, "available") for event_id in redriven],
        make_cursor(redriven[-1]) if more else None,
    )


# ---- steps ----------------------------------------------------------------------------------------


async def _lease_waiting(
    request: Request[Any, Any, Any], services: Services, inbox: Inbox, asked: LeaseBody, lease_id: UUID
) -> tuple[Inbox, list[Message]]:
    """Look; stand in line; then listen, look again, wait: so no hint between is lost.

    The inbox may change meanwhile: it is returned as it was last seen.

    Who left meanwhile holds nothing: an interrupted consumer often gives back what it held at the
    same moment, and would be given it again by the request that it no longer waits for.
    """
    _refuse_deleting(inbox)
    gone: asyncio.Future[Any] = asyncio.ensure_future(_disconnected(request))
    try:
        messages = await _claim(services, inbox, asked, lease_id)
        if not messages and asked.wait_seconds and inbox.status != SubscriptionStatus.PAUSED:
            inbox, messages = await _stand_in_line(gone, services, inbox, asked, lease_id)
        if messages and gone.done():
            await inbox_store.release(services.database, inbox, lease_id, None, 0)
            services.wakeup.give({inbox.org_id})
            return inbox, []
        return inbox, messages
    finally:
        gone.cancel()


async def _stand_in_line(
    gone: asyncio.Future[Any], services: Services, inbox: Inbox, asked: LeaseBody, lease_id: UUID
) -> tuple[Inbox, list[Message]]:
    deadline = asyncio.get_running_loop().time() + asked.wait_seconds
    line = line_of(inbox.id)
    turn: asyncio.Future[Any] = asyncio.ensure_future(line.acquire())
    try:
        await asyncio.wait({turn, gone}, timeout=asked.wait_seconds, return_when=asyncio.FIRST_COMPLETED)
        if not turn.done():
            return inbox, []  # those in front looked all the time
        return await _look_until(deadline, gone, services, inbox, asked, lease_id)
    finally:
        if turn.done():
            line.release()
        else:
            turn.cancel()


async def _look_until(
    deadline: float,
    gone: asyncio.Future[Any],
    services: Services,
    inbox: Inbox,
    asked: LeaseBody,
    lease_id: UUID,
) -> tuple[Inbox, list[Message]]:
    with services.wakeup.waiting(inbox.org_id) as hint:
        while True:
            hint.clear()
            messages = await _claim(services, inbox, asked, lease_id)
            if messages:
                return inbox, messages
            inbox = await inbox_store.find(services.database, inbox.org_id, str(inbox.id))
            _refuse_deleting(inbox)
            if inbox.status == SubscriptionStatus.PAUSED:  # it gives what it had, and waits for nothing
                return inbox, await _claim(services, inbox, asked, lease_id)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or gone.done() or services.health.stopping:
                return inbox, []
            hinted = asyncio.ensure_future(hint.wait())
            await asyncio.wait(
                {hinted, gone}, timeout=min(left, POLL_SECONDS), return_when=asyncio.FIRST_COMPLETED
            )
            hinted.cancel()


async def _claim(services: Services, inbox: Inbox, asked: LeaseBody, lease_id: UUID) -> list[Message]:
    return await inbox_store.claim(
        services.database,
        services.positions,
        inbox,
        lease_id,
        asked.lease_seconds,
        asked.lease_limit,
        repeatable=asked.lease_id is not None,
    )


async def _disconnected(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refuse_deleting(inbox: Inbox) -> None:
    if inbox.status == SubscriptionStatus.DELETING:
        raise Conflict("The inbox is being deleted.")


def _ids(texts: list[str] | None) -> list[UUID] | None:
    """Ids in a body; what is no id is one that does not exist."""
    return None if texts is None else [found for text in texts if (found := parse_id(text)) is not None]


def _message(message: Message, event_type: str | None) -> dict[str, Any]:
    return {
        "id": message.event_id,
        "created_at": minted_at(message.event_id),
        "status": message.status,
        "message_attributes": MessageAttributes(
            lease_count=message.lease_count,
            event_type=event_type,
            error_message=message.reason,
            possible_duplicate_data=message.lease_count > 1,
        ),
    }


def _settled(messages: list[Message]) -> list[SettledMessage]:
    return [SettledMessage(message.event_id, message.status) for message in messages]
