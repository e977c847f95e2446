"""Request and answer bodies of the messages of an inbox."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.http.views import Timestamp


class LeaseBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A lease to take. The caller can choose the `lease_id`; repeating the request returns the same lease."""

    lease_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300
    lease_limit: Annotated[int, Meta(ge=1, le=1000)] = 10
    wait_seconds: Annotated[float, Meta(ge=0, le=20)] = 0
    lease_id: UUID | None = None


class SettleBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The messages of a lease to acknowledge: without `message_ids`, all messages of the lease."""

    lease_id: str
    message_ids: Annotated[list[str], Meta(max_length=1000)] | None = None


class ReleaseBody(SettleBody, forbid_unknown_fields=True, kw_only=True):
    """The messages of a lease to release, and when they are available again.

    Without `message_ids`, all messages of the lease are released.
    """

    delay_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0


class ExtendBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The new duration of a lease, from now on."""

    lease_id: str
    lease_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300


class RedriveBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The quarantined messages to re-drive. Without `message_ids`, the oldest 1,000 are re-driven."""

    message_ids: Annotated[list[str], Meta(max_length=1000)] | None = None
    cursor: (
        Annotated[
            str,
            Meta(max_length=100, description="`next_cursor` of the previous answer. Not with `message_ids`."),
        ]
        | None
    ) = None


class MessageAttributes(msgspec.Struct, kw_only=True):
    """Attributes of a message."""

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
    """A leased message with its payload."""

    payload: Any


class InboxAttributes(msgspec.Struct):
    """The state of the inbox at the time of the lease."""

    status: str
    paused_reason: str | None


class Lease(msgspec.Struct, kw_only=True):
    """A lease of messages until `leased_until`. If no message was available, its id and time are null."""

    lease_id: UUID | None
    leased_until: Timestamp | None
    results: list[LeasedMessage]
    inbox_attributes: InboxAttributes


class MessageList(msgspec.Struct):
    """A page of messages."""

    data: list[MessageView]
    next_cursor: str | None


class SettledMessage(msgspec.Struct):
    """A message that is no longer leased, and its status."""

    id: UUID
    status: str


class Acked(msgspec.Struct):
    """The acknowledged messages. Without any, `acked_id` is null and `results` is empty."""

    acked_id: UUID | None
    results: list[SettledMessage]


class Released(msgspec.Struct):
    """The released messages. Without any, `released_id` is null and `results` is empty."""

    released_id: UUID | None
    results: list[SettledMessage]


class Extended(msgspec.Struct):
    """The lease and its new end. Both are null if the lease has ended already."""

    lease_id: UUID | None
    leased_until: Timestamp | None


class Redriven(msgspec.Struct):
    """The messages that are available again."""

    results: list[SettledMessage]
    next_cursor: str | None
