"""The fields of requests. A field that is not given is not sent, so the service's default applies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

Time = datetime | str
"""A time with a time zone, or an RFC 3339 text."""

Status = Literal["active", "paused", "disabled", "deleting"]
InboxStatus = Literal["active", "paused", "deleting"]
MessageStatus = Literal["available", "leased", "quarantined"]
DeliveryStatus = Literal["pending", "leased", "delivered", "acknowledged", "dead", "cancelled", "expired"]
Kind = Literal["push", "inbox"]
Format = Literal["standard", "raw", "cloudevents"]
Signature = Literal["v1", "v1a"]
Range = Literal["1h", "24h", "14d"]
Order = Literal["asc", "desc"]
Scope = Literal["events:read", "events:write", "inbox", "keys", "read", "subscriptions", "admin", "act"]


class EventFields(TypedDict, total=False):
    """An event, besides its type and payload. Without `dedup_id` the library makes one."""

    dedup_id: str
    source: str
    subject: str
    ordering_key: str
    occurred_at: Time


class _TypeAndPayload(TypedDict):
    type: str
    payload: Any


class NewEvent(_TypeAndPayload, EventFields):
    """An event of `send_many`."""


class Page(TypedDict, total=False):
    """Where a list begins, and how much of it one request reads."""

    limit: int
    cursor: str


class EventQuery(Page, total=False):
    """The events to list. `undelivered` takes `pending`, `dead` or both."""

    type: str
    subject: str
    dedup_id: str
    undelivered: str
    since: Time
    until: Time
    order: Order


class SubscriptionQuery(Page, total=False):
    """The subscriptions to list."""

    key: str
    status: Status
    failing: bool


class SampleQuery(TypedDict, total=False):
    """Of which events to show the bodies, and in which format."""

    type: str
    format: Format
    limit: int


class InboxQuery(Page, total=False):
    """The inboxes to list. With `backlog` their messages are counted."""

    key: str
    status: InboxStatus
    backlog: bool


class MessageQuery(Page, total=False):
    """The messages of an inbox to list."""

    status: MessageStatus


class DefaultInboxQuery(MessageQuery, total=False):
    """The messages of the default inbox to list."""

    order: Order


class DeliveryQuery(Page, total=False):
    """The deliveries to list; the pending ones by default."""

    status: DeliveryStatus
    subscription_id: str
    kind: Kind
    since: Time
    until: Time


class AttemptQuery(Page, total=False):
    """The attempts of an event to list."""

    subscription_id: str


class UndeliveredQuery(Page, total=False):
    """The subscriptions with undelivered events to list; those that push by default."""

    kind: Kind
    subscription_id: str


class ReplayQuery(Page, total=False):
    """The replays to list."""

    subscription_id: str
    status: str


class RetrySchedule(TypedDict, total=False):
    """Seconds between attempts, and after the first one no attempt begins later than `deadline` seconds."""

    delays: Sequence[float] | None
    deadline: float | None


class SubscriptionChanges(TypedDict, total=False):
    """Settings of a subscription. None resets one to its default."""

    name: str | None
    event_types: Sequence[str] | None
    filter: str | None
    format: Format | None
    headers: Mapping[str, str] | None
    ordering: Literal["key", "none"] | None
    ordering_key: str | None
    max_concurrency: int | None
    rate_limit: float | None
    retry: RetrySchedule | None
    expires_at: Time | None


class SubscriptionPatch(SubscriptionChanges, total=False):
    """Changes of a subscription. What is not given stays as it is."""

    target_url: str


class SubscriptionFields(SubscriptionChanges, total=False):
    """A new subscription, besides its URL."""

    key: str
    secret: str
    signature: Signature
    start: str


class DryRunFields(TypedDict, total=False):
    """The rules to try on the last events."""

    event_types: Sequence[str] | None
    filter: str | None
    last: int
    among: Literal["all", "types"]


class InboxChanges(TypedDict, total=False):
    """Changes of an inbox. What is not given stays as it is."""

    event_types: Sequence[str] | None
    filter: str | None
    notification_url: str | None
    default_lease_seconds: int
    expires_in_seconds: int | None


class InboxFields(InboxChanges, total=False):
    """A new inbox, besides its key."""

    max_leases: int | None


class LeaseFields(TypedDict, total=False):
    """A lease to take. With `lease_id` the request can be repeated; without one the library makes it."""

    lease_seconds: int
    lease_limit: int
    wait_seconds: float
    lease_id: str
    consumer: str


class Note(TypedDict, total=False):
    """The report of a consumer on its work on a message. `text` has at most 1 KiB."""

    status_code: int
    duration_ms: int
    text: str


class SettleFields(TypedDict, total=False):
    """The messages of a lease to settle; all of them by default. Older services know no `note`."""

    message_ids: Sequence[str]
    note: Note


class ReleaseFields(SettleFields, total=False):
    """As `SettleFields`, and after how many seconds the messages are available again.

    `counted=False`: the lease does not count for `lease_count`. Older services do not know this field.
    """

    delay_seconds: float
    counted: bool


class RedriveFields(TypedDict, total=False):
    """The quarantined messages to redrive; the oldest 1,000 by default."""

    message_ids: Sequence[str]
    cursor: str


class ReplayFields(TypedDict, total=False):
    """The events to replay, and how fast, in deliveries a second."""

    since: Time
    until: Time
    event_types: Sequence[str]
    only: Literal["all", "dead"]
    action: Literal["replay", "retry", "cancel"]
    rate: int


class KeyFields(TypedDict, total=False):
    """A new API key."""

    name: str
    scopes: Sequence[Scope]
    live: bool
    expires_at: Time


class RotateSecretFields(TypedDict, total=False):
    """A new signing secret. The old one also signs for `overlap_seconds`."""

    secret: str
    signature: Signature
    overlap_seconds: int
