"""Finds out whether an event was refused because of its data, or whether the database refuses every event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from triggers.domain import EventId, NewEvent, OrgId, Plan
from triggers.events import store as event_store
from triggers.events.store import Batch
from triggers.keys import organisations
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection

log = structlog.get_logger()


async def can_store_good_event(connection: Connection, clock: DatabaseClock, window: timedelta) -> bool:
    """Whether this connection can store an event that is certainly valid, with a delivery.

    The event belongs to an organisation of its own, because the organisations of the refused events may have
    been deleted meanwhile. The transaction is rolled back. The result is False if this cannot be determined.
    """
    transaction = connection.transaction()
    try:
        await transaction.start()
        try:
            name = f"good event {clock.mint()}"
            organisation = await organisations.insert(connection, clock, name, Plan.FREE, None)
            event = _good_event(OrgId(organisation.id), EventId(clock.mint()))
            receipt = await event_store.accept(connection, clock, Batch([event]), window)
            return not receipt.missing
        finally:
            await transaction.rollback()
    except Exception as error:  # noqa: BLE001 - whatever it is, the event was not stored
        log.error("good_event_refused_by_database", error=repr(error))
        return False


def _good_event(org_id: OrgId, event_id: EventId) -> NewEvent:
    """An event with a value in every column. No other event has its id or dedup_id. Its type does not begin
    with `triggers.`, so that the default inbox of its organisation gets it."""
    return NewEvent(
        org_id=org_id,
        id=event_id,
        type="probe",
        payload=b'"good"',
        dedup_id=str(event_id),
        source="triggers",
        subject="probe",
        ordering_key="probe",
        occurred_at=datetime(2024, 1, 1, tzinfo=UTC),
        attributes=b'{"probe":"good"}',
    )
