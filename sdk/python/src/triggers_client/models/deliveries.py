"""Deliveries and attempts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from triggers_client.decoding import Model


@dataclass(frozen=True, kw_only=True)
class Attempt(Model):
    """One HTTP request to an endpoint."""

    id: str
    event_id: str
    subscription_id: str
    generation: int
    attempt: int
    began_at: datetime
    duration_ms: int
    outcome: str
    reason: str
    status_code: int | None
    response: str | None
    retry_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ConsumerNote(Model):
    """The report of the consumer of an inbox when it settled the message the last time."""

    status_code: int | None
    duration_ms: int | None
    text: str | None
    reported_at: datetime


@dataclass(frozen=True, kw_only=True)
class DeliveryRecord(Model):
    """One generation of a delivery. The first is 0; each replay or retry of a settled delivery adds 1."""

    generation: int
    status: str
    reason: str | None
    attempts: int
    lease_count: int
    accepted_at: datetime
    first_attempt_at: datetime | None
    due_at: datetime | None
    settled_at: datetime | None
    waiting_for: str | None
    next_at: datetime | None
    note: ConsumerNote | None = None


@dataclass(frozen=True, kw_only=True)
class ListedDelivery(DeliveryRecord):
    """A delivery in a list."""

    id: str
    event_id: str
    event_type: str | None
    subscription_id: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class DeliveryDetail(ListedDelivery):
    """The latest generation of a delivery, its last attempt, and the earlier generations."""

    target_url: str | None
    last_attempt: Attempt | None
    earlier: list[DeliveryRecord]


@dataclass(frozen=True, kw_only=True)
class EventDelivery(ListedDelivery):
    """The latest generation of a delivery, with its subscription."""

    name: str
    target_url: str | None
    retry_delays: list[float] | None


@dataclass(frozen=True, kw_only=True)
class EventDeliveryList(Model):
    """The deliveries of an event."""

    data: list[EventDelivery]
    total: int
    unsent: int
