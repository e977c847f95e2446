"""Answer bodies of deliveries and attempts."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from triggers.deliveries.store import Attempt, Delivery
from triggers.domain import AttemptOutcome, PageRequest, minted_at, rfc3339
from triggers.events.consumer_note import Note, shown_note
from triggers.http.views import Timestamp, next_cursor, optional_timestamp


class AttemptView(msgspec.Struct, kw_only=True):
    """One HTTP request to an endpoint."""

    id: UUID
    event_id: UUID
    subscription_id: UUID
    generation: int
    attempt: Annotated[int, Meta(description="Number of the attempt of its delivery, from 1.")]
    began_at: Timestamp
    duration_ms: int
    outcome: AttemptOutcome
    reason: str
    status_code: int | None
    response: Annotated[
        str | None,
        Meta(
            description="The beginning of the answer's body, with `[malformed]` or another word at its end if"
            " the answer could not be read completely. If there was no answer, the error."
        ),
    ]
    retry_at: Timestamp | None


class AttemptList(msgspec.Struct):
    """A page of attempts."""

    data: list[AttemptView]
    next_cursor: str | None


class DeliveryRecord(msgspec.Struct, kw_only=True):
    """One generation of a delivery. The first is 0; each replay or retry of a settled delivery adds 1."""

    generation: int
    status: str
    reason: Annotated[str | None, Meta(description="Why the last attempt failed, or how the delivery ended.")]
    attempts: int
    lease_count: int
    accepted_at: Timestamp
    first_attempt_at: Annotated[
        Timestamp | None,
        Meta(description="Null if there was no attempt, and for deliveries that an earlier version settled."),
    ]
    due_at: Timestamp | None
    settled_at: Timestamp | None
    waiting_for: Annotated[
        str | None,
        Meta(
            description="Why an unsettled delivery waits: `its_turn`, `retry_time`, `failing_endpoint`,"
            " `earlier_of_its_key`, `subscription_paused`, `subscription_disabled`, `subscription_deleting`."
            " In an inbox: `consumer` or `delay`."
        ),
    ]
    next_at: Annotated[
        Timestamp | None, Meta(description="Time of the next attempt, if it depends only on time.")
    ]
    note: Note


class DeliveryListed(DeliveryRecord, kw_only=True):
    """A delivery in a list."""

    id: str
    event_id: UUID
    event_type: Annotated[str | None, Meta(description="Null if the event is no longer stored.")]
    subscription_id: UUID
    kind: Annotated[str, Meta(description="Kind of the subscription: `push` or `inbox`.")]


class DeliveryDetail(DeliveryListed, kw_only=True):
    """The latest generation of a delivery, its last attempt, and the earlier generations."""

    target_url: Annotated[
        str | None, Meta(description="The present URL of the subscription. Null for an inbox.")
    ]
    last_attempt: Annotated[
        AttemptView | None, Meta(description="The last request of any generation, with the answer.")
    ]
    earlier: list[DeliveryRecord]


class DeliveryList(msgspec.Struct):
    """A page of deliveries."""

    data: list[DeliveryListed]
    next_cursor: str | None


def attempts_view(found: list[Attempt], page: PageRequest) -> AttemptList:
    """A page of attempts as answers show it."""
    return AttemptList([attempt_view(attempt) for attempt in found], next_cursor(found, page))


def attempt_view(attempt: Attempt) -> AttemptView:
    """An attempt as answers show it."""
    members = msgspec.structs.asdict(attempt)
    members["began_at"] = minted_at(attempt.id)
    members["retry_at"] = optional_timestamp(attempt.retry_at)
    return AttemptView(**members)


def record_view(delivery: Delivery) -> DeliveryRecord:
    """A generation of a delivery as answers show it."""
    return DeliveryRecord(
        generation=delivery.generation,
        status=delivery.status,
        reason=delivery.reason,
        attempts=delivery.attempts,
        lease_count=delivery.lease_count,
        accepted_at=rfc3339(delivery.accepted_at),
        first_attempt_at=optional_timestamp(delivery.first_attempt_at),
        due_at=optional_timestamp(delivery.due_at),
        settled_at=optional_timestamp(delivery.settled_at),
        waiting_for=delivery.waiting_for,
        next_at=optional_timestamp(delivery.next_at),
        note=shown_note(delivery.note),
    )


def listed_view(delivery: Delivery, event_type: str | None) -> DeliveryListed:
    """A delivery as lists show it."""
    return DeliveryListed(
        **msgspec.structs.asdict(record_view(delivery)),
        id=f"{delivery.event_id}.{delivery.subscription_id}",
        event_id=delivery.event_id,
        event_type=event_type,
        subscription_id=delivery.subscription_id,
        kind=delivery.kind,
    )
