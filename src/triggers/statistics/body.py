"""The answer of `GET /v1/stats`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.http.views import Timestamp

Range = Literal["1h", "24h", "14d"]
_LAG = (
    "Time from the acceptance of an event to the first attempt of its delivery, estimated from 16 buckets."
    " 65.536 stands for this time or longer. Null if there were no first attempts."
)
Lag = Annotated[float | None, Meta(description=_LAG)]


class Numbers(msgspec.Struct, kw_only=True):
    """Counts of events and deliveries."""

    accepted: Annotated[
        int | None,
        Meta(description="Events that callers sent and that were stored. Null for a single subscription."),
    ]
    duplicate: Annotated[
        int | None,
        Meta(description="Events that were duplicates of earlier ones. Null for a single subscription."),
    ]
    delivered: Annotated[int, Meta(description="Push deliveries that arrived.")]
    failed: Annotated[int, Meta(description="Failed attempts, including the last one of a dead letter.")]
    dead: Annotated[int, Meta(description="Push deliveries that became dead letters.")]
    lag_p50_seconds: Lag
    lag_p95_seconds: Lag


class Point(Numbers, kw_only=True):
    """The numbers of one step."""

    at: Annotated[Timestamp, Meta(description="Time when the step begins.")]
    backlog: Annotated[
        int | None,
        Meta(
            description="Highest sample of the number of unsettled deliveries, for push and in inboxes,"
            " counted up to 100,000. One sample is taken per minute. Null without a sample, and for a single"
            " subscription."
        ),
    ]


class Failing(msgspec.Struct, kw_only=True):
    """A subscription with failures."""

    subscription_id: UUID
    delivered: int
    failed: int
    dead: int


class StatisticsGap(msgspec.Struct, kw_only=True):
    """A time without numbers."""

    since: Timestamp
    until: Timestamp


class Statistics(msgspec.Struct, kw_only=True):
    """Statistics of an organisation or of one of its push subscriptions."""

    range: Range
    subscription_id: UUID | None
    since: Annotated[Timestamp, Meta(description="Time when the first step begins.")]
    until: Annotated[Timestamp, Meta(description="The present time. The last step has not ended yet.")]
    step_seconds: int
    totals: Numbers
    points: Annotated[
        list[Point],
        Meta(description="One for each step, oldest first: 60 for `1h`, 96 for `24h`, 336 for `14d`."),
    ]
    worst: Annotated[
        list[Failing],
        Meta(
            description="The subscriptions with the most failed attempts and dead letters, at most 10. For"
            " `24h` and `14d`, their numbers count from a full hour on. Empty for a single subscription."
        ),
    ]
    gaps: Annotated[
        list[StatisticsGap],
        Meta(
            description="Times without numbers, of three minutes or longer, in whole minutes, or in whole"
            " hours for `14d`. In these times the service did not run, or it was not able to write its"
            " numbers. A gap that begins with the range may also be the time before the service was"
            " installed."
        ),
    ]


class SubscriptionHours(msgspec.Struct, kw_only=True):
    """The numbers of a push subscription by hour. Each list has 24 numbers, oldest first."""

    subscription_id: UUID
    delivered: list[int]
    failed: Annotated[
        list[int], Meta(description="Failed attempts, including the last ones of dead letters.")
    ]
    dead: list[int]


class SubscriptionStatistics(msgspec.Struct, kw_only=True):
    """A page of push subscriptions with their numbers of the last 24 hours."""

    since: Annotated[Timestamp, Meta(description="Time when the first hour begins.")]
    until: Annotated[Timestamp, Meta(description="The present time. The last hour has not ended yet.")]
    data: list[SubscriptionHours]
    next_cursor: str | None


class OrganisationUse(msgspec.Struct, kw_only=True):
    """The use that an organisation makes of the service."""

    id: Annotated[UUID, Meta(description="Id of the organisation.")]
    subscriptions: Annotated[int, Meta(description="Number of push subscriptions and inboxes.")]
    max_subscriptions: int
    accepted: Annotated[int, Meta(description="Events that were accepted since `since`.")]
    backlog: Annotated[
        int | None,
        Meta(
            description="Unsettled deliveries in the last sample, counted up to 100,000. Null if no sample"
            " was taken in the last ten minutes."
        ),
    ]
    backlog_is_cut: Annotated[bool, Meta(description="Whether there may be more than `backlog`.")]


class UseList(msgspec.Struct, kw_only=True):
    """A page of the use of organisations."""

    since: Annotated[Timestamp, Meta(description="A full hour, 23 to 24 hours ago.")]
    data: list[OrganisationUse]
    next_cursor: str | None
