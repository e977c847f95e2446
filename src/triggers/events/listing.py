"""Lists events that match a filter. A page looks at a bounded number of events, and names the last."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

from triggers.domain import OrgId
from triggers.events.store import EventRange, StoredEvent
from triggers.postgres.database import Database, Row, statements

_SQL = statements(__name__)

MAX_LOOKED_AT: Final = 20_000
"""Maximum number of events that a page looks at."""
MAX_OWNERS: Final = 10_000
"""Maximum number of subscriptions and inboxes whose deliveries are looked at for undelivered events."""
UNDELIVERED_ROWS: Final = 20_000
"""Deliveries that a page of undelivered events reads. If there are many subscriptions, it reads more."""
_PARTS: Final = 4  # per subscription: unsettled, dead, cancelled, expired


class EventFilter(NamedTuple):
    """The events to list. None selects all. `event_type` is an exact type or a pattern."""

    event_type: str | None = None
    subject: str | None = None
    dedup_id: str | None = None

    @property
    def values(self) -> tuple[str | None, str | None, str | None, str | None]:
        """The filter as arguments of the statements: type, prefix of the type, subject, dedup_id."""
        wanted = self.event_type
        if wanted is not None and (wanted == "*" or wanted.endswith(".*")):
            return None, wanted[:-1], self.subject, self.dedup_id
        return wanted, None, self.subject, self.dedup_id


class ListedEvents(NamedTuple):
    """A page of events.

    `looked_to` is the last event that was looked at, None if there was none. `more`: whether there is a next
    page, which begins after that event.
    """

    events: list[StoredEvent]
    looked_to: UUID | None
    more: bool


async def page_of(
    database: Database, org_id: OrgId, within: EventRange, wanted: EventFilter, limit: int
) -> ListedEvents:
    """Return matching events of a range. A page may have fewer than `limit` and still not be the last one."""
    if wanted.dedup_id is not None and within.newest_first:
        within = await _from_named(database, org_id, within, wanted.dedup_id)
    filtered = any(value is not None for value in wanted)
    scan = MAX_LOOKED_AT if filtered else limit
    name = "newest_first" if within.newest_first else "oldest_first"
    rows = await database.fetch(_SQL[name], org_id, within.lowest, within.below, scan, limit, *wanted.values)
    events = [_stored_event(row) for row in rows if row["id"] is not None]
    if len(events) == limit:
        return ListedEvents(events, events[-1].id, more=True)
    return ListedEvents(events, rows[0]["last"], more=rows[0]["looked_at"] == scan)


async def undelivered(
    database: Database, org_id: OrgId, within: EventRange, wanted: EventFilter, limit: int
) -> ListedEvents:
    """Return the events with a delivery that is unsettled, dead, cancelled or expired, newest first."""
    window = await database.row(_SQL["window"], org_id, within.lowest, within.below, MAX_LOOKED_AT)
    assert window is not None
    if not window["looked_at"]:
        return ListedEvents([], None, more=False)
    lowest, more = window["last"], window["looked_at"] == MAX_LOOKED_AT
    owners = [row["id"] for row in await database.fetch(_SQL["owners"], org_id, MAX_OWNERS)]
    most = max(5, min(limit, UNDELIVERED_ROWS // (_PARTS * len(owners) or 1)))
    rows = await database.fetch(_SQL["undelivered"], org_id, owners, lowest, within.below, most)
    # A part that was cut says nothing about events that are older than its last one.
    horizon = _horizon(rows, most)
    if horizon is not None:
        lowest, more = horizon, True
    ids = sorted({row["event_id"] for row in rows if not row["replayed"] and row["event_id"] >= lowest})
    if len(ids) > limit:
        ids = ids[-limit:]
        lowest, more = ids[0], True
    if not ids:
        return ListedEvents([], lowest, more)
    found = await database.fetch(_SQL["of_ids"], org_id, ids, ids[0], ids[-1], *wanted.values)
    return ListedEvents([StoredEvent(**row) for row in found], lowest, more)


async def _from_named(database: Database, org_id: OrgId, within: EventRange, dedup_id: str) -> EventRange:
    """Cut the range at the newest event with a dedup_id, if the service still remembers the dedup_id."""
    row = await database.row(_SQL["named"], org_id, dedup_id)
    if row is None:
        return within
    return within._replace(below=min(within.below, UUID(int=row["event_id"].int + 1)))


def _horizon(rows: list[Row], most: int) -> UUID | None:
    """Return the newest event at which a part was cut, or None if all parts are complete."""
    parts: dict[tuple[UUID, str], list[UUID]] = {}
    for row in rows:
        parts.setdefault((row["owner"], row["part"]), []).append(row["event_id"])
    return max((min(ids) for ids in parts.values() if len(ids) == most), default=None)


def _stored_event(row: Row) -> StoredEvent:
    return StoredEvent(**{name: value for name, value in row.items() if name not in ("looked_at", "last")})
