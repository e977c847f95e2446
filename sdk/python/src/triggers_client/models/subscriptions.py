"""Push subscriptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from triggers_client.decoding import Model


@dataclass(frozen=True, kw_only=True)
class Retry(Model):
    """The times at which a failed delivery is retried."""

    delays: list[float] | None = None
    deadline: float | None = None


@dataclass(frozen=True, kw_only=True)
class Subscription(Model):
    """A subscription. Answers never contain the values of its headers."""

    id: str
    key: str | None
    name: str | None
    target_url: str
    target_url_unicode: str | None
    status: str
    status_reason: str | None
    status_at: datetime
    event_types: list[str] | None
    filter: str | None
    filter_error: str | None
    filter_error_at: datetime | None
    format: str
    header_names: list[str]
    signature: str
    public_key: str | None
    old_secret_ends_at: datetime | None
    ordering: str
    ordering_key: str | None
    max_concurrency: int
    rate_limit: float | None
    retry: Retry
    expires_at: datetime | None
    notifies_inbox: str | None
    created_at: datetime
    changed_at: datetime
    last_success_at: datetime | None
    failing_since: datetime | None
    oldest_pending: datetime | None
    next_attempt: datetime | None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class EnabledSubscription(Subscription):
    """An enabled subscription, and the time range in which it matched nothing."""

    missed_since: datetime | None
    missed_until: datetime | None
    hint: str | None


@dataclass(frozen=True, kw_only=True)
class DryRunMatch(Model):
    """An event that would be delivered. `filter_error` is set if the filter failed on it."""

    id: str
    type: str
    created_at: datetime
    filter_error: str | None


@dataclass(frozen=True, kw_only=True)
class DryRun(Model):
    """The newest events that match, newest first."""

    judged: int
    matched: int
    failed: int
    complete: bool
    matches: list[DryRunMatch]


@dataclass(frozen=True, kw_only=True)
class TestAttempt(Model):
    """The HTTP request of the test."""

    id: str
    attempt: int
    outcome: str
    reason: str
    status_code: int | None
    response: str | None
    duration_ms: int
    began_at: datetime
    retry_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class TestDelivery(Model):
    """The delivery of the test, and its first attempt if there was one within 20 seconds."""

    delivery_id: str
    event_id: str
    attempt: TestAttempt | None


@dataclass(frozen=True, kw_only=True)
class Undelivered(Model):
    """A subscription or an inbox that has undelivered events."""

    subscription_id: str
    kind: str
    name: str
    status: str
    failing_since: datetime | None
    pending: int
    pending_exact: bool
    dead: int
    dead_exact: bool
    oldest_pending: datetime | None
    last_reason: str | None
    last_status_code: int | None
