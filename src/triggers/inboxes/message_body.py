"""Requests and answers about the messages of an inbox."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.http.views import Timestamp


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
