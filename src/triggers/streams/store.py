"""The statements with which streams read the log: a bounded number of rows that are newer than a place."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from triggers.domain import AttemptOutcome, OrgId, SubscriptionStatus
from triggers.postgres.database import Database, Row, statements
from triggers.streams.frames import AttemptEnded, DeliveryDied, EventStored
from triggers.streams.window import MAX_SEEN

_SQL = statements(__name__)

MAX_SUBSCRIPTIONS: Final = 10_000
"""Maximum number of push subscriptions of an organisation whose attempts are read."""
MAX_AVAILABLE: Final = 1_000
"""Maximum number of available messages that are counted."""


class AcceptedRows(NamedTuple):
    """Events by id. `now` is the database's time of the look."""

    now: datetime
    rows: dict[UUID, EventStored]


class AttemptRows(NamedTuple):
    """Attempts by id. Their types are not known yet. `now` is the database's time of the look."""

    now: datetime
    rows: dict[UUID, AttemptEnded]


class DeadRows(NamedTuple):
    """Dead deliveries, whose types are not known yet, with the times when they died."""

    now: datetime
    rows: dict[DeliveryDied, datetime]


class AvailableRows(NamedTuple):
    """MessagesAvailable messages of an inbox: the id of the event and the time since when it is available."""

    now: datetime
    status: SubscriptionStatus
    rows: set[tuple[UUID, datetime]]


async def accepted(database: Database, org_id: OrgId, after: UUID) -> AcceptedRows:
    """Read the newest events whose ids are above `after`."""
    rows = await database.fetch(_SQL["accepted"], org_id, after, MAX_SEEN)
    return AcceptedRows(
        rows[0]["now"], {row["id"]: EventStored(row["id"], row["type"]) for row in _found(rows)}
    )


async def attempts(database: Database, org_id: OrgId, after: UUID) -> AttemptRows:
    """Read the newest attempts whose ids are above `after`. An id has the time when its attempt began."""
    rows = await database.fetch(_SQL["attempts"], org_id, after, MAX_SEEN, MAX_SUBSCRIPTIONS)
    found = {
        row["id"]: AttemptEnded(
            event_id=row["event_id"],
            type=None,
            subscription_id=row["subscription_id"],
            generation=row["generation"],
            attempt=row["attempt"],
            outcome=AttemptOutcome(row["outcome"]),
        )
        for row in _found(rows)
    }
    return AttemptRows(rows[0]["now"], found)


async def dead(database: Database, org_id: OrgId, after: datetime) -> DeadRows:
    """Read the deliveries and messages that died last, after a moment."""
    rows = await database.fetch(_SQL["dead"], org_id, after, MAX_SEEN)
    found = {
        DeliveryDied(row["event_id"], None, row["subscription_id"], row["generation"]): row["settled_at"]
        for row in rows
        if row["event_id"] is not None
    }
    return DeadRows(rows[0]["now"], found)


async def available(
    database: Database, org_id: OrgId, inbox_id: UUID, after: datetime
) -> AvailableRows | None:
    """Read the messages of an inbox that are available, and were not yet at a moment. None: no such inbox."""
    rows = await database.fetch(_SQL["available"], org_id, inbox_id, after, MAX_AVAILABLE)
    if not rows:
        return None
    found = {(row["event_id"], row["due_at"]) for row in rows if row["event_id"] is not None}
    return AvailableRows(rows[0]["now"], SubscriptionStatus(rows[0]["status"]), found)


def _found(rows: list[Row]) -> list[Row]:
    """The rows without the empty one that only has the time."""
    return [row for row in rows if row["id"] is not None]
