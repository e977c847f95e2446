"""Stores a test event for one subscription only, and reads the first attempt of its delivery."""

from __future__ import annotations

from uuid import UUID

from triggers.deliveries.store import Attempt
from triggers.domain import NewEvent, OrgId, begins_a_minute_before
from triggers.postgres.database import Database, statements

_SQL = statements(__name__)


async def store_test(database: Database, subscription_id: UUID, event: NewEvent) -> bool:
    """Store an event and one delivery of it, to this subscription alone; False if it is disabled."""
    row = await database.row(_SQL["test"], event.org_id, subscription_id, event.id, event.type, event.payload)
    return row is not None


async def first_attempt(
    database: Database, org_id: OrgId, subscription_id: UUID, event_id: UUID
) -> Attempt | None:
    """Return the first attempt of a delivery, or None if there is none yet."""
    row = await database.row(
        _SQL["attempt_of"], org_id, subscription_id, event_id, begins_a_minute_before(event_id)
    )
    return None if row is None else Attempt.of(row)
