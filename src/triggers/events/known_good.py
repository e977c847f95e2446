"""Finds out whether an event was refused because of its data, or whether the database refuses every event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from triggers.domain import EventId, NewEvent, OrgId
from triggers.events import store as event_store
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection

log = structlog.get_logger()


async def can_store_good_event(
    connection: Connection, clock: DatabaseClock, org_id: OrgId, window: timedelta
) -> bool:
    """Whether this connection can store an event that is certainly valid, with its deliveries.

    The event is rolled back. The answer is False if this cannot be determined.
    """
    event = _good_event(org_id, clock.mint())
    transaction = connection.transaction()
    try:
        await transaction.start()
        try:
            version = (await event_store.resolve(connection, [event]))[event.id].version
            if version is None:
                return False
            receipt = await event_store.accept(connection, clock, [event], window, [version])
            return not receipt.missing
        finally:
            await transaction.rollback()
    except Exception as error:  # noqa: BLE001 - whatever it is, the event was not stored
        log.error("good_event_refused_by_database", error=repr(error))
        return False


def _good_event(org_id: OrgId, event_id: UUID) -> NewEvent:
    """An event with a value in every column except `attributes`. No other event has its id or dedup_id. Its
    type does not begin with `triggers.`, so that inboxes of all types get it."""
    return NewEvent(
        org_id=org_id,
        id=EventId(event_id),
        type="probe",
        payload=b'"good"',
        dedup_id=str(event_id),
        source="triggers",
        subject="probe",
        ordering_key="probe",
        occurred_at=datetime(2024, 1, 1, tzinfo=UTC),
        attributes=b'{"probe":"good"}',
    )
