"""Inboxes, messages and leases."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from triggers_client.decoding import Model
from triggers_client.models.problems import UnsettledMessage


@dataclass(frozen=True, kw_only=True)
class InboxEvent(Model):
    """An event in the default inbox that is not acknowledged."""

    id: str
    type: str
    payload: Any = None
    created_at: datetime
    delivery_status: str
    lease_count: int


@dataclass(frozen=True, kw_only=True)
class AcknowledgementResult(Model):
    """An id and its outcome: `acknowledged`, `already_acknowledged`, or `failed` if it is not there."""

    id: str
    status: str


@dataclass(frozen=True, kw_only=True)
class Acknowledgement(Model):
    """The number of ids for each outcome, and the outcome of each id in the order of the request."""

    acknowledged: int
    already_acknowledged: int
    failed: int
    results: list[AcknowledgementResult]


@dataclass(frozen=True, kw_only=True)
class Notifications(Model):
    """The notifications of an inbox. They are deliveries of the push subscription with this id."""

    subscription_id: str
    status: str
    status_reason: str | None


@dataclass(frozen=True, kw_only=True)
class InboxBacklog(Model):
    """The messages of an inbox, counted up to 1,000 each."""

    messages: int
    messages_exact: bool
    leased: int
    leased_exact: bool
    quarantined: int
    quarantined_exact: bool
    oldest_message: datetime | None


@dataclass(frozen=True, kw_only=True)
class Inbox(Model):
    """An inbox."""

    id: str
    key: str
    status: str
    paused_reason: str | None
    event_types: list[str] | None
    filter: str | None
    filter_error: str | None
    filter_error_at: datetime | None
    notification_url: str | None
    notification_url_unicode: str | None
    notifications: Notifications | None
    max_leases: int | None
    default_lease_seconds: int
    retention_seconds: float | None
    created_at: datetime
    status_at: datetime
    backlog: InboxBacklog | None = None
    expires_at: datetime | None = None
    notification_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class MessageAttributes(Model):
    """Attributes of a message."""

    lease_count: int
    event_type: str | None
    error_message: str | None = None
    possible_duplicate_data: bool


@dataclass(frozen=True, kw_only=True)
class ListedMessage(Model):
    """A message in a list. A leased message also has its lease, the end of the lease, and the
    consumer."""

    id: str
    created_at: datetime
    status: str
    message_attributes: MessageAttributes
    lease_id: str | None
    leased_until: datetime | None
    consumer: str | None


@dataclass(frozen=True, kw_only=True)
class LeasedMessage(Model):
    """A leased message with its payload."""

    id: str
    created_at: datetime
    status: str
    message_attributes: MessageAttributes
    payload: Any = None


@dataclass(frozen=True, kw_only=True)
class InboxAttributes(Model):
    """The state of the inbox at the time of the lease."""

    status: str
    paused_reason: str | None


@dataclass(frozen=True, kw_only=True)
class Lease(Model):
    """A lease of messages until `leased_until`. If no message was available, its id and time are null."""

    lease_id: str | None
    leased_until: datetime | None
    results: list[LeasedMessage]
    inbox_attributes: InboxAttributes


@dataclass(frozen=True, kw_only=True)
class HeldLease(Model):
    """A lease that has not ended. `consumer` is the name that the consumer gave itself, or null."""

    lease_id: str
    messages: int
    leased_until: datetime
    consumer: str | None


@dataclass(frozen=True, kw_only=True)
class SettledMessage(Model):
    """A message that is no longer leased, and its status."""

    id: str
    status: str


@dataclass(frozen=True, kw_only=True)
class Acked(Model):
    """The lease, and the messages that were acknowledged now."""

    acked_id: str
    results: list[SettledMessage]
    not_settled: list[UnsettledMessage] | None = None


@dataclass(frozen=True, kw_only=True)
class Released(Model):
    """The lease, and the messages that were released now."""

    released_id: str
    results: list[SettledMessage]
    not_settled: list[UnsettledMessage] | None = None


@dataclass(frozen=True, kw_only=True)
class Rejected(Model):
    """The lease, and the messages that were quarantined now."""

    rejected_id: str
    results: list[SettledMessage]
    not_settled: list[UnsettledMessage]


@dataclass(frozen=True, kw_only=True)
class Revoked(Model):
    """The lease that was ended, and its messages, which are available again."""

    revoked_id: str
    results: list[SettledMessage]


@dataclass(frozen=True, kw_only=True)
class Extended(Model):
    """The lease and its new end, which is null if all its messages were acknowledged before."""

    lease_id: str
    leased_until: datetime | None


@dataclass(frozen=True, kw_only=True)
class Redriven(Model):
    """The messages that are available again."""

    results: list[SettledMessage]
    next_cursor: str | None
