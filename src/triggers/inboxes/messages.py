"""Messages of an inbox over HTTP: lists, leases, the ends of leases, and re-driving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from triggers import observability
from triggers.domain import (
    Caller,
    NotSettledReason,
    SubscriptionStatus,
    check_text,
    minted_at,
    parse_id,
    rfc3339,
)
from triggers.errors import Invalid, LeaseOver, Paused
from triggers.events import store as event_store
from triggers.events.consumer_note import stored_note
from triggers.http.problems import UnsettledMessage
from triggers.http.request import Request
from triggers.http.response import JsonResponse
from triggers.http.route import Answer
from triggers.http.views import (
    FIRST_PAGE,
    PageQuery,
    make_cursor,
    optional_timestamp,
    page_request,
    raw,
    read_cursor,
)
from triggers.inboxes import settlement_store
from triggers.inboxes import store as inbox_store
from triggers.inboxes.default_inbox import MessageStatus
from triggers.inboxes.lease_queue import LeaseQueue, refuse_deleting
from triggers.inboxes.message_body import (
    Acked,
    ExtendBody,
    Extended,
    InboxAttributes,
    Lease,
    LeaseBody,
    LeasedMessage,
    LeaseList,
    LeaseView,
    ListedMessage,
    MessageAttributes,
    MessageList,
    RedriveBody,
    Redriven,
    RejectBody,
    Rejected,
    ReleaseBody,
    Released,
    RevokeBody,
    Revoked,
    SettleBody,
    SettledMessage,
)
from triggers.inboxes.routes import inbox_route
from triggers.inboxes.settlement_store import LeasedMessages
from triggers.inboxes.store import HeldLease, Inbox, Message
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Database
from triggers.wakeups.wakeup import Wakeup

REDRIVE_LIMIT = 1_000


class MessageRoutes:
    """Handlers of the URLs of an inbox's messages."""

    def __init__(
        self, database: Database, clock: DatabaseClock, wakeup: Wakeup, stopping: Callable[[], bool]
    ) -> None:
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._queue = LeaseQueue(database, wakeup, stopping)

    async def list_messages(
        self,
        caller: Caller,
        inbox: str,
        status: MessageStatus = None,
        asked: PageQuery = FIRST_PAGE,
    ) -> MessageList:
        """List messages without their payloads, oldest first. Nothing is changed."""
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        page = await inbox_store.messages(
            self._database, found, page_request(asked), status=status, newest_first=False
        )
        types = await event_store.types(
            self._database, caller.org_id, [message.event_id for message in page.messages]
        )
        return MessageList(
            [_listed(message, types.get(message.event_id)) for message in page.messages],
            make_cursor(page.last),
        )

    async def list_leases(self, caller: Caller, inbox: str, asked: PageQuery = FIRST_PAGE) -> LeaseList:
        """List the leases of an inbox that have not ended, in the order of their ids.

        Ids that the service chose are in the order of time. A page looks at 5,000 leased messages at most. It
        may therefore have fewer than `limit` leases, even none, and still a `next_cursor`.
        """
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        page = await inbox_store.leases(self._database, found, page_request(asked))
        return LeaseList(
            [_lease(lease) for lease in page.leases],
            make_cursor(page.last),
        )

    async def lease_messages(
        self,
        request: Request,
        caller: Caller,
        inbox: str,
        data: LeaseBody | None = None,
    ) -> JsonResponse[Lease]:
        """Lease available messages, oldest first.

        The answer is 201 with a lease, or 200 without one if no message is available. With `wait_seconds` the
        request waits until a message is available, or the inbox is paused or deleted. Messages that are not
        acknowledged are available again when the lease ends.
        """
        asked = data or LeaseBody()
        if asked.consumer is not None:
            check_text(asked.consumer, "/consumer", longest=128)
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        lease_id = asked.lease_id or self._clock.mint()
        found, messages = await self._queue.lease(request, found, asked, lease_id)
        attributes = InboxAttributes(found.status, found.paused_reason)
        if not messages:
            if found.status == SubscriptionStatus.PAUSED and not await inbox_store.holds_any(
                self._database, found
            ):
                raise Paused
            return JsonResponse(
                Lease(lease_id=None, leased_until=None, results=[], inbox_attributes=attributes),
                status_code=200,
            )
        observability.leased_total.inc(len(messages))
        payloads = await event_store.payloads(self._database, caller.org_id, [m.event_id for m in messages])
        return JsonResponse(
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

    async def ack_messages(self, caller: Caller, inbox: str, data: SettleBody) -> JsonResponse[Acked]:
        """Acknowledge messages of a lease. A lease that has ended cannot acknowledge messages.

        The request can be repeated: if all its messages were acknowledged before, in any way, the answer is
        200.
        """
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        acked = await settlement_store.acknowledge_lease(self._database, found, _held(data, self._clock))
        observability.acknowledged_total.inc(len(acked))
        not_settled = await _not_settled(self._database, found, data, acked)
        if not acked:
            return JsonResponse(Acked(data.lease_id, []), status_code=200)
        return JsonResponse(Acked(data.lease_id, _settled(acked), not_settled), status_code=201)

    async def release_messages(self, caller: Caller, inbox: str, data: ReleaseBody) -> JsonResponse[Released]:
        """Release messages of a lease, so that they can be leased again.

        Their lease count stays as it is, unless the lease does not count (`counted`). If all the messages
        were acknowledged before, the answer is 200.
        """
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        held = _held(data, self._clock)
        released = await settlement_store.release(
            self._database, found, held, data.delay_seconds, counted=data.counted
        )
        if released and not data.delay_seconds:
            self._wakeup.give({caller.org_id})
        not_settled = await _not_settled(self._database, found, data, released)
        if not released:
            return JsonResponse(Released(data.lease_id, []), status_code=200)
        return JsonResponse(Released(data.lease_id, _settled(released), not_settled), status_code=201)

    async def revoke_lease(self, caller: Caller, inbox: str, data: RevokeBody) -> Revoked:
        """End a lease of another consumer. Its messages are available again at once.

        The consumer can no longer settle them. Its requests are answered with 409 `lease-over`, unless it had
        already acknowledged all messages of the lease. The lease count of the messages does not change.
        """
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        released = await settlement_store.release(self._database, found, LeasedMessages(data.lease_id), 0)
        if not released:
            raise LeaseOver
        self._wakeup.give({caller.org_id})
        return Revoked(data.lease_id, _settled(released))

    async def reject_messages(self, caller: Caller, inbox: str, data: RejectBody) -> Rejected:
        """Quarantine messages of a lease at once.

        They are not leased again until they are re-driven.
        """
        reason = check_text(data.reason, "/reason", longest=255)
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        rejected = await settlement_store.reject(self._database, found, _held(data, self._clock), reason)
        not_settled = await _not_settled(self._database, found, data, rejected)
        if not rejected:  # even if they were acknowledged before, they are not in quarantine
            raise LeaseOver(not_settled=not_settled)
        return Rejected(data.lease_id, _settled(rejected), not_settled)

    async def extend_lease(self, caller: Caller, inbox: str, data: ExtendBody) -> JsonResponse[Extended]:
        """Extend or shorten a lease. If all its messages were acknowledged before, the answer is 200."""
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        seconds = data.lease_seconds or found.default_lease_seconds
        held = await settlement_store.extend(self._database, found, data.lease_id, seconds)
        if held:
            return JsonResponse(
                Extended(data.lease_id, optional_timestamp(held[0].leased_until)), status_code=201
            )
        if await settlement_store.is_finished(self._database, found, data.lease_id):
            return JsonResponse(Extended(data.lease_id, None), status_code=200)
        raise LeaseOver

    async def redrive_messages(self, caller: Caller, inbox: str, data: RedriveBody | None = None) -> Redriven:
        """Make quarantined messages available again, with a lease count of 0.

        Without ids this re-drives the oldest 1,000. Repeat it with `next_cursor` until that is null.
        """
        found = await inbox_store.find(self._database, caller.org_id, inbox)
        refuse_deleting(found)
        data = data or RedriveBody()
        ids, start = _ids(data.message_ids), read_cursor(data.cursor)
        if ids is not None and start is not None:
            raise Invalid("Must not be used together with `message_ids`.", pointer="/cursor")
        redriven = await inbox_store.redrive(self._database, found, ids, start, REDRIVE_LIMIT)
        if redriven:
            self._wakeup.give({caller.org_id})
        more = ids is None and len(redriven) == REDRIVE_LIMIT
        return Redriven(
            [SettledMessage(event_id, "available") for event_id in redriven],
            make_cursor(redriven[-1]) if more else None,
        )


# ---- steps ----------------------------------------------------------------------------------------


def _ids(texts: list[str] | None) -> list[UUID] | None:
    """The ids in a body. A text that is not a valid id is ignored, like an id that does not exist."""
    return None if texts is None else [found for text in texts if (found := parse_id(text)) is not None]


def _held(data: SettleBody, clock: DatabaseClock) -> LeasedMessages:
    """The messages that a request settles. Raises Invalid for a note that is too long."""
    note = None if data.note is None else stored_note(data.note, rfc3339(clock.moment()))
    return LeasedMessages(data.lease_id, _ids(data.message_ids), note)


async def _not_settled(
    database: Database, inbox: Inbox, data: SettleBody, settled: list[Message]
) -> list[UnsettledMessage]:
    """The messages that the request names and that it did not settle, with the reasons.

    Raises:
        LeaseOver: the request settled nothing, and not all its messages were acknowledged before.
    """
    if data.message_ids is None:
        if not settled and not await settlement_store.is_finished(database, inbox, data.lease_id):
            raise LeaseOver
        return []
    done = {message.event_id for message in settled}
    rest = {text: event_id for text in data.message_ids if (event_id := parse_id(text)) not in done}
    reasons = await settlement_store.reasons(
        database,
        inbox,
        data.lease_id,
        [event_id for event_id in rest.values() if event_id is not None],
        alive=bool(settled),
    )
    not_settled = [
        UnsettledMessage(text, NotSettledReason.NOT_IN_LEASE if event_id is None else reasons[event_id])
        for text, event_id in rest.items()
    ]
    if not settled and any(each.reason != NotSettledReason.ALREADY_ACKNOWLEDGED for each in not_settled):
        raise LeaseOver(not_settled=not_settled)
    return not_settled


def _message(message: Message, event_type: str | None) -> dict[str, Any]:
    return {
        "id": message.event_id,
        "created_at": minted_at(message.event_id),
        "status": message.status,
        "message_attributes": MessageAttributes(
            lease_count=message.lease_count,
            event_type=event_type,
            error_message=message.reason,
            possible_duplicate_data=message.lease_count > 1 or message.given_back,
        ),
    }


def _listed(message: Message, event_type: str | None) -> ListedMessage:
    return ListedMessage(
        **_message(message, event_type),
        lease_id=message.lease_id,
        leased_until=optional_timestamp(message.leased_until),
        consumer=message.consumer,
    )


def _lease(lease: HeldLease) -> LeaseView:
    return LeaseView(
        lease_id=lease.id,
        messages=lease.messages,
        leased_until=rfc3339(lease.leased_until),
        consumer=lease.consumer,
    )


def _settled(messages: list[Message]) -> list[SettledMessage]:
    return [SettledMessage(message.event_id, message.status) for message in messages]


_DONE_BEFORE = Answer(200, "Nothing was changed, because all the messages were acknowledged before.")
_LEASE_OVER = Answer(409, "Nothing was changed, because the lease has ended or does not hold the messages.")
_DELETING = Answer(409, "The inbox is being deleted.")


ROUTES = (
    inbox_route("GET", "/{inbox}/messages", MessageRoutes.list_messages),
    inbox_route(
        "POST",
        "/{inbox}/messages/lease",
        MessageRoutes.lease_messages,
        201,
        (
            Answer(201, "A lease with its messages."),
            Answer(200, "No message is available. The lease has no id and no messages."),
            Answer(
                409,
                "The inbox is paused and has no earlier messages left, or it is being deleted.",
            ),
        ),
    ),
    inbox_route(
        "POST",
        "/{inbox}/messages/ack",
        MessageRoutes.ack_messages,
        201,
        (Answer(201, "The messages were acknowledged."), _DONE_BEFORE, _LEASE_OVER),
    ),
    inbox_route(
        "POST",
        "/{inbox}/messages/release",
        MessageRoutes.release_messages,
        201,
        (Answer(201, "The messages were released."), _DONE_BEFORE, _LEASE_OVER),
    ),
    inbox_route("GET", "/{inbox}/leases", MessageRoutes.list_leases),
    inbox_route(
        "POST",
        "/{inbox}/messages/revoke",
        MessageRoutes.revoke_lease,
        answers=(Answer(409, "Nothing was changed, because the lease has ended or holds no messages."),),
    ),
    inbox_route("POST", "/{inbox}/messages/reject", MessageRoutes.reject_messages, 201, (_LEASE_OVER,)),
    inbox_route(
        "POST",
        "/{inbox}/messages/extend",
        MessageRoutes.extend_lease,
        201,
        (Answer(201, "The lease was extended."), _DONE_BEFORE, _LEASE_OVER),
    ),
    inbox_route("POST", "/{inbox}/messages/redrive", MessageRoutes.redrive_messages, answers=(_DELETING,)),
)
