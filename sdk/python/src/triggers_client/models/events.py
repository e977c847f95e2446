"""Events, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from triggers_client.decoding import Model
from triggers_client.models.deliveries import ConsumerNote


@dataclass(frozen=True, kw_only=True)
class SentEvent(Model):
    """The answer to an accepted event. If `duplicate` is true, the event was stored before, with this
    id."""

    id: str
    type: str
    dedup_id: str | None
    status: str = "accepted"
    duplicate: bool
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Event(Model):
    """An event without its payload."""

    id: str
    type: str
    dedup_id: str | None
    source: str | None
    subject: str | None
    ordering_key: str | None
    occurred_at: datetime | None
    created_at: datetime
    payload_size: int


@dataclass(frozen=True, kw_only=True)
class DeliveryState(Model):
    """The delivery of an event to one subscription. While it is pending, `due_at` is its next attempt."""

    subscription_id: str
    kind: str
    key: str | None
    generation: int
    status: str
    reason: str | None
    lease_count: int
    attempts: int
    due_at: datetime | None
    settled_at: datetime | None
    note: ConsumerNote | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation(Model):
    """Why a subscription has a delivery of the event, or has none."""

    subscription_id: str
    kind: str
    key: str | None
    status: str
    matched: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class EventDetail(Model):
    """An event with its payload and its deliveries. `explanations` is present only with `?explain`."""

    id: str
    type: str
    dedup_id: str | None
    source: str | None
    subject: str | None
    ordering_key: str | None
    occurred_at: datetime | None
    created_at: datetime
    payload_size: int
    attributes: dict[str, str | bool | int] | None
    payload: Any = None
    deliveries: list[DeliveryState]
    explanations: list[Explanation] | None = None


@dataclass(frozen=True, kw_only=True)
class MatchedAddressee(Model):
    """A subscription or inbox that the event would be sent to. If it is paused, it keeps the event."""

    subscription_id: str
    kind: str
    name: str
    status: str
    filter_error: str | None


@dataclass(frozen=True, kw_only=True)
class OtherAddressee(Model):
    """A subscription or an inbox that the event is not sent to."""

    subscription_id: str
    kind: str
    name: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class EventDryRun(Model):
    """The subscriptions and inboxes that the event would be sent to, and the others, at most 200 of
    each."""

    matched: int
    matches: list[MatchedAddressee]
    unmatched: int
    others: list[OtherAddressee]
    reasons: dict[str, int]
    complete: bool


@dataclass(frozen=True, kw_only=True)
class UnsentAddressee(Model):
    """A subscription or an inbox that has no delivery of a stored event."""

    subscription_id: str
    kind: str
    name: str
    status: str
    reason: str
    filter_error: str | None
    changed_since: bool


@dataclass(frozen=True, kw_only=True)
class Unmatched(Model):
    """The subscriptions and inboxes without a delivery of the event. The list has at most 200 of them."""

    unmatched: int
    changed: int
    others: list[UnsentAddressee]
    reasons: dict[str, int]
    complete: bool
