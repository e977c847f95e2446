"""Named inboxes: made, changed, and read by consumers that lease, acknowledge and release."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response
from litestar.params import Parameter
from msgspec import UNSET, Meta, UnsetType

from triggers import observability
from triggers.api.inbox import MessageStatus
from triggers.api.lines import line_of
from triggers.api.services import Services
from triggers.api.views import Cursor, Limit, Timestamp, make_cursor, optional_timestamp, raw, read_cursor
from triggers.domain import (
    DEFAULT_INBOX,
    Caller,
    SubscriptionStatus,
    check_inbox_key,
    check_text,
    check_type_patterns,
    created_at,
    parse_id,
    rfc3339,
)
from triggers.errors import Conflict, Invalid, NameTaken, NotFound, Paused
from triggers.storage import event_store, inbox_changes, inbox_store
from triggers.storage.inbox_changes import NewInbox
from triggers.storage.inbox_store import Inbox, Message
from triggers.subscription import check_filter, check_target, same_types

POLL_SECONDS = 1.0
"""How often a long poll looks without a hint; hints only shorten the wait."""
REDRIVE_LIMIT = 1_000

EventTypes = Annotated[
    list[str],
    Meta(
        max_length=100,
        description="Exact types, prefixes with a trailing wildcard (`order.*`), or `*`. Null: every type.",
    ),
]
MaxLeases = Annotated[
    int, Meta(ge=1, le=1_000_000, description="Quarantine a message that was leased so often. Null: never.")
]
Filter = Annotated[str, Meta(max_length=2048, description="CEL over `payload` and `event`: true or false.")]
NotificationUrl = Annotated[
    str,
    Meta(
        max_length=2048,
        description="Where a signed `{inbox_id, received_message_count, redelivery}` is POSTed to when"
        " messages come.",
    ),
]


class InboxBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The settings of an inbox."""

    key: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=100,
            description="Names it in paths: no `/`, not `.` or `..`, nothing that looks like an id (a UUID).",
        ),
    ]
    event_types: EventTypes | None = None
    max_leases: MaxLeases | None = None
    filter: Filter | None = None
    notification_url: NotificationUrl | None = None


class InboxChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What to change; what is left out stays."""

    event_types: EventTypes | UnsetType | None = UNSET
    filter: Filter | UnsetType | None = UNSET
    notification_url: NotificationUrl | UnsetType | None = UNSET


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


class NotificationsView(msgspec.Struct, kw_only=True):
    """The state of an inbox's notices. They are deliveries of a push subscription of this id."""

    subscription_id: UUID
    status: str
    status_reason: str | None


class InboxView(msgspec.Struct, kw_only=True):
    """An inbox."""

    id: UUID
    key: str
    status: str
    paused_reason: str | None
    event_types: list[str] | None
    filter: str | None
    filter_error: Annotated[
        str | None, Meta(description="How the filter failed last; what it fails on counts as a match.")
    ]
    filter_error_at: Timestamp | None
    notification_url: str | None
    notifications: NotificationsView | None
    max_leases: int | None
    retention_seconds: float | None
    created_at: Timestamp
    status_at: Timestamp


class NotifyingInboxView(InboxView, kw_only=True):
    """An inbox whose notices are new, and the secret that signs them: no other answer shows it."""

    notification_secret: str


class InboxList(msgspec.Struct):
    """Part of the list of inboxes."""

    data: list[InboxView]
    next_cursor: str | None


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


# ---- inboxes -------------------------------------------------------------------------------------


async def list_inboxes(
    caller: Caller,
    services: Services,
    key: Annotated[str | None, Parameter(max_length=100)] = None,
    status: Annotated[str | None, Parameter(pattern="^(active|paused|deleting)$")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> InboxList:
    """List the inboxes in the order they were made."""
    if key is not None:
        check_text(key, "key", longest=100)
    found = await inbox_store.listed(
        services.database, caller.org_id, read_cursor(cursor), key, status, limit
    )
    return InboxList(
        await _views(services, found), make_cursor(found[-1].id if len(found) == limit else None)
    )


async def create_inbox(caller: Caller, services: Services, data: InboxBody) -> InboxView | NotifyingInboxView:
    """Make an inbox; it collects from now on."""
    return await _create(services, caller, data)


async def ensure_inbox(
    caller: Caller, services: Services, data: InboxBody
) -> Response[InboxView | NotifyingInboxView]:
    """Make an inbox unless it is there: 201 when made, 200 when it was there with these settings."""
    check_inbox_key(data.key)  # before one is looked for: an id would find another inbox
    for _ in range(3):  # made and deleted by others in between, at worst
        try:
            found = await inbox_store.find(services.database, caller.org_id, data.key)
        except NotFound:
            try:
                return Response(await _create(services, caller, data), status_code=201)
            except NameTaken:
                continue
        if different := _different(found, data):
            raise Conflict(f"There is an inbox with this key and another {', '.join(different)}.")
        return Response(await _view(services, found), status_code=200)
    raise Conflict("The inbox is being made and deleted by others at this moment.")


async def get_inbox(caller: Caller, services: Services, inbox: str) -> InboxView:
    """Show one inbox."""
    return await _view(services, await inbox_store.find(services.database, caller.org_id, inbox))


async def change_inbox(
    caller: Caller, services: Services, inbox: str, data: InboxChange
) -> InboxView | NotifyingInboxView:
    """Change what an inbox collects from now on, and where its notices go."""
    changes = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not UNSET}
    _check(services, changes)
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    changed = await inbox_changes.patch(services.database, services.clock, services.key_ring, found, changes)
    return await _changed_view(services, changed)


async def delete_inbox(caller: Caller, services: Services, inbox: str) -> InboxView:
    """Delete an inbox: it collects nothing from now on, and its messages are cancelled."""
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    deleting = await inbox_changes.delete(services.database, found)
    services.wakeup.give({caller.org_id})
    return await _view(services, deleting)


async def pause_inbox(caller: Caller, services: Services, inbox: str) -> InboxView:
    """Pause an inbox: what is there can still be leased, what comes is kept for the resume."""
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    paused = await inbox_changes.pause(services.database, services.key_ring, found, "paused by request")
    services.wakeup.give({caller.org_id})
    return await _view(services, paused)


async def resume_inbox(caller: Caller, services: Services, inbox: str) -> InboxView:
    """Resume a paused inbox."""
    found = await inbox_store.find(services.database, caller.org_id, inbox)
    resumed = await inbox_changes.resume(services.database, services.key_ring, found)
    services.wakeup.give({caller.org_id})
    return await _view(services, resumed)


# ---- messages ------------------------------------------------------------------------------------


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
    attributes = InboxAttributes(found.status, _paused_reason(found))
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


# ---- steps ---------------------------------------------------------------------------------------


async def _create(services: Services, caller: Caller, data: InboxBody) -> InboxView | NotifyingInboxView:
    wanted = msgspec.structs.asdict(data)
    _check(services, wanted)
    made = await inbox_changes.create(
        services.database,
        services.clock,
        services.key_ring,
        caller.org_id,
        NewInbox(**wanted),
    )
    return await _changed_view(services, made)


def _check(services: Services, wanted: dict[str, Any]) -> None:
    """Bring what was asked for into the form that is kept, or raise Invalid, naming the field."""
    if "event_types" in wanted:
        wanted["event_types"] = check_type_patterns(wanted["event_types"])
    if wanted.get("filter") is not None:
        check_filter(wanted["filter"])
    if (url := wanted.get("notification_url")) is not None:
        check_target(url, services.settings.outbound_policy(), "/notification_url")


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


def _different(found: Inbox, asked: InboxBody) -> list[str]:
    """Which settings an inbox has otherwise than asked for."""
    names = ["filter", "notification_url", "max_leases"]
    different = [name for name in names if getattr(found, name) != getattr(asked, name)]
    same = same_types(found.event_types, check_type_patterns(asked.event_types))
    return different if same else ["event_types", *different]


def _ids(texts: list[str] | None) -> list[UUID] | None:
    """Ids in a body; what is no id is one that does not exist."""
    return None if texts is None else [found for text in texts if (found := parse_id(text)) is not None]


def _message(message: Message, event_type: str | None) -> dict[str, Any]:
    return {
        "id": message.event_id,
        "created_at": rfc3339(created_at(message.event_id)),
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


def _paused_reason(inbox: Inbox) -> str | None:
    return inbox.status_reason if inbox.status == SubscriptionStatus.PAUSED else None


async def _view(services: Services, inbox: Inbox) -> InboxView:
    return (await _views(services, [inbox]))[0]


async def _changed_view(services: Services, changed: inbox_changes.Changed) -> InboxView | NotifyingInboxView:
    view = await _view(services, changed.inbox)
    if changed.secret is None:
        return view
    return NotifyingInboxView(**msgspec.structs.asdict(view), notification_secret=changed.secret)


async def _views(services: Services, inboxes: list[Inbox]) -> list[InboxView]:
    if not inboxes:
        return []
    notifying = [inbox.id for inbox in inboxes if inbox.notification_url is not None]
    notices = await inbox_changes.notices(services.database, inboxes[0].org_id, notifying)
    return [
        InboxView(
            id=inbox.id,
            key=inbox.key,
            status=inbox.status,
            paused_reason=_paused_reason(inbox),
            event_types=inbox.event_types,
            filter=inbox.filter,
            filter_error=inbox.filter_error,
            filter_error_at=optional_timestamp(inbox.filter_error_at),
            notification_url=inbox.notification_url,
            notifications=NotificationsView(**notices[inbox.id]._asdict()) if inbox.id in notices else None,
            max_leases=inbox.max_leases,
            retention_seconds=services.settings.inbox_retention if inbox.key == DEFAULT_INBOX else None,
            created_at=rfc3339(inbox.created_at),
            status_at=rfc3339(inbox.status_at),
        )
        for inbox in inboxes
    ]
