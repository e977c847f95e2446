"""Request and answer bodies of the messages of an inbox."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers.events.consumer_note import NoteBody
from triggers.http.problems import UnsettledMessage
from triggers.http.views import Timestamp

LeaseSeconds = Annotated[int, Meta(ge=1, le=3600)]
NotSettled = Annotated[
    list[UnsettledMessage] | UnsetType,
    Meta(
        description="Only in a 201: the messages that the request names but did not settle, with the"
        " reasons. `already_acknowledged`: the message was acknowledged before, in any way."
        " `not_in_lease`: the lease does not hold the message. `lease_over`: the lease has ended."
    ),
]


class LeaseBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A lease to take. The caller can choose the `lease_id`; repeating the request returns the same lease."""

    lease_seconds: (
        Annotated[LeaseSeconds, Meta(description="Default: `default_lease_seconds` of the inbox.")] | None
    ) = None
    lease_limit: Annotated[int, Meta(ge=1, le=1000)] = 10
    wait_seconds: Annotated[float, Meta(ge=0, le=60)] = 0
    lease_id: (
        Annotated[
            UUID,
            Meta(description="A new UUID, so that the request can be repeated. Default: one is made."),
        ]
        | None
    ) = None
    consumer: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=128,
                description="Name of the consumer. The lists of leases and messages show it to people.",
            ),
        ]
        | None
    ) = None


class SettleBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The messages of a lease to acknowledge: without `message_ids`, all messages of the lease."""

    lease_id: UUID
    message_ids: (
        Annotated[
            list[str],
            Meta(max_length=1000, description="Ids of messages of the lease. Default: all of them."),
        ]
        | None
    ) = None
    note: Annotated[
        NoteBody | None,
        Meta(
            description="Shown with the deliveries, as reported by the consumer. It replaces an earlier note."
        ),
    ] = None


class RejectBody(SettleBody, forbid_unknown_fields=True, kw_only=True):
    """The messages of a lease to quarantine, and why.

    Without `message_ids`, all messages of the lease are quarantined.
    """

    reason: Annotated[
        str, Meta(min_length=1, max_length=255, description="Shown as the `error_message` of the messages.")
    ]


class ReleaseBody(SettleBody, forbid_unknown_fields=True, kw_only=True):
    """The messages of a lease to release, and when they are available again.

    Without `message_ids`, all messages of the lease are released.
    """

    delay_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0
    counted: Annotated[
        bool,
        Meta(
            description="Whether the lease counts for `lease_count`, and so for `max_leases`. False: the"
            " consumer did not fail, but stops, or never began."
        ),
    ] = True


class RevokeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The lease to end."""

    lease_id: UUID


class ExtendBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The new duration of a lease, from now on."""

    lease_id: UUID
    lease_seconds: (
        Annotated[LeaseSeconds, Meta(description="Default: `default_lease_seconds` of the inbox.")] | None
    ) = None


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

    lease_count: Annotated[
        int, Meta(description="Number of leases, without those that were released with `counted` false.")
    ]
    event_type: str | None
    error_message: str | None = None
    possible_duplicate_data: Annotated[
        bool,
        Meta(
            description="Whether a consumer had the message before, and may have processed it. After a"
            " redrive or a replay it is false again."
        ),
    ]


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


class ListedMessage(MessageView, kw_only=True):
    """A message in a list. A leased message also has its lease, the end of the lease, and the consumer."""

    lease_id: UUID | None
    leased_until: Timestamp | None
    consumer: str | None


class MessageList(msgspec.Struct):
    """A page of messages."""

    data: list[ListedMessage]
    next_cursor: str | None


class LeaseView(msgspec.Struct, kw_only=True):
    """A lease that has not ended. `consumer` is the name that the consumer gave itself, or null."""

    lease_id: UUID
    messages: Annotated[int, Meta(description="Number of messages that the lease holds.")]
    leased_until: Timestamp
    consumer: str | None


class LeaseList(msgspec.Struct):
    """A page of leases."""

    data: list[LeaseView]
    next_cursor: str | None


class SettledMessage(msgspec.Struct):
    """A message that is no longer leased, and its status."""

    id: UUID
    status: str


class Acked(msgspec.Struct):
    """The lease, and the messages that were acknowledged now."""

    acked_id: UUID
    results: list[SettledMessage]
    not_settled: NotSettled = UNSET


class Released(msgspec.Struct):
    """The lease, and the messages that were released now."""

    released_id: UUID
    results: list[SettledMessage]
    not_settled: NotSettled = UNSET


class Revoked(msgspec.Struct):
    """The lease that was ended, and its messages, which are available again."""

    revoked_id: UUID
    results: list[SettledMessage]


class Rejected(msgspec.Struct):
    """The lease, and the messages that were quarantined now."""

    rejected_id: UUID
    results: list[SettledMessage]
    not_settled: NotSettled


class Extended(msgspec.Struct):
    """The lease and its new end, which is null if all its messages were acknowledged before."""

    lease_id: UUID
    leased_until: Timestamp | None


class Redriven(msgspec.Struct):
    """The messages that are available again."""

    results: list[SettledMessage]
    next_cursor: str | None
