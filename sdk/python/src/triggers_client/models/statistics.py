"""Numbers over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from triggers_client.decoding import Model


@dataclass(frozen=True, kw_only=True)
class Numbers(Model):
    """Counts of events and deliveries."""

    accepted: int | None
    duplicate: int | None
    delivered: int
    failed: int
    dead: int
    lag_p50_seconds: float | None
    lag_p95_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class StatisticsPoint(Model):
    """The numbers of one step."""

    accepted: int | None
    duplicate: int | None
    delivered: int
    failed: int
    dead: int
    lag_p50_seconds: float | None
    lag_p95_seconds: float | None
    at: datetime
    backlog: int | None


@dataclass(frozen=True, kw_only=True)
class FailingSubscription(Model):
    """A subscription with failures."""

    subscription_id: str
    delivered: int
    failed: int
    dead: int


@dataclass(frozen=True, kw_only=True)
class StatisticsGap(Model):
    """A time without numbers."""

    since: datetime
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Statistics(Model):
    """Statistics of an organisation or of one of its push subscriptions."""

    range: str
    subscription_id: str | None
    since: datetime
    until: datetime
    step_seconds: int
    totals: Numbers
    points: list[StatisticsPoint]
    worst: list[FailingSubscription]
    gaps: list[StatisticsGap]


@dataclass(frozen=True, kw_only=True)
class SubscriptionHours(Model):
    """The numbers of a push subscription by hour. Each list has 24 numbers, oldest first."""

    subscription_id: str
    delivered: list[int]
    failed: list[int]
    dead: list[int]
