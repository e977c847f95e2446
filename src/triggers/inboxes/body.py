"""Request and answer bodies of inboxes themselves. Those of their messages are in `message_body.py`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from triggers.http.views import Timestamp
from triggers.inboxes.backlog import InboxBacklog
from triggers.inboxes.message_body import LeaseSeconds
from triggers.inboxes.store import DEFAULT_LEASE_SECONDS
from triggers.subscriptions.body import Filter, UnicodeUrl

InboxEventTypes = Annotated[
    list[str],
    Meta(
        max_length=100,
        description="Exact types, prefixes with a trailing wildcard (`order.*`), or `*`. Null: all types.",
    ),
]
MaxLeases = Annotated[
    int, Meta(ge=1, le=1_000_000, description="Quarantine a message after so many leases. Null: never.")
]
DefaultLeaseSeconds = Annotated[
    LeaseSeconds,
    Meta(description="Duration of a lease in seconds, if the request that takes or extends it names none."),
]
NotificationUrl = Annotated[
    str,
    Meta(
        max_length=2048,
        description="URL for notifications. When messages arrive, a signed `{inbox_id,"
        " received_message_count, redelivery}` is sent to it with POST.",
    ),
]
ExpiresIn = Annotated[
    int,
    Meta(
        ge=30,
        le=604_800,
        description="Delete the inbox so many seconds from now, unless this is set again. Null: never.",
    ),
]


class InboxBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The settings of an inbox."""

    key: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=100,
            description="Name of the inbox in paths. It must not contain `/`, or be `.`, `..` or a UUID.",
        ),
    ]
    event_types: InboxEventTypes | None = None
    max_leases: MaxLeases | None = None
    filter: Filter | None = None
    notification_url: NotificationUrl | None = None
    default_lease_seconds: DefaultLeaseSeconds = DEFAULT_LEASE_SECONDS
    expires_in_seconds: ExpiresIn | None = None


class InboxChange(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Changes of an inbox. Omitted fields stay as they are."""

    event_types: InboxEventTypes | UnsetType | None = UNSET
    filter: Filter | UnsetType | None = UNSET
    notification_url: NotificationUrl | UnsetType | None = UNSET
    default_lease_seconds: DefaultLeaseSeconds | UnsetType = UNSET
    expires_in_seconds: ExpiresIn | UnsetType | None = UNSET


class NotificationsView(msgspec.Struct, kw_only=True):
    """The notifications of an inbox. They are deliveries of the push subscription with this id."""

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
        str | None,
        Meta(description="The last failure of the filter. An event on which it fails counts as a match."),
    ]
    filter_error_at: Timestamp | None
    notification_url: str | None
    notification_url_unicode: UnicodeUrl
    notifications: NotificationsView | None
    max_leases: int | None
    default_lease_seconds: int
    retention_seconds: float | None
    expires_at: Annotated[
        Timestamp | None,
        Meta(description="The inbox and its messages are deleted at this time. Null: never."),
    ]
    created_at: Timestamp
    status_at: Timestamp
    backlog: Annotated[InboxBacklog | UnsetType, Meta(description="Present only with `?backlog`.")] = UNSET


class NotifyingInboxView(InboxView, kw_only=True):
    """An inbox with the secret that signs its new notifications. No other answer contains the secret."""

    notification_secret: str


class InboxList(msgspec.Struct):
    """A page of inboxes."""

    data: list[InboxView]
    next_cursor: str | None
