"""Lists events that match a filter. A page looks at a bounded number of events, and names the last."""

from __future__ import annotations

import heapq
from operator import attrgetter
from typing import Final, NamedTuple
from uuid import UUID

from triggers.domain import OrgId
from triggers.events.store import EventRange, StoredEvent
from triggers.fairness.pace import Steps, do
from triggers.postgres.database import Database, Row, statements

_SQL = statements(__name__)

MAX_LOOKED_AT: Final = 20_000
"""Maximum number of events that a page looks at."""
MAX_OWNERS: Final = 10_000
"""Maximum number of subscriptions and inboxes whose deliveries are looked at for undelivered events."""
UNDELIVERED_ROWS: Final = 20_000
"""Deliveries that a page with undelivered events reads, unless there are too many subscriptions for that."""
_STEP_ROWS: Final = 500
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
    # Where a part was cut, nothing is known of what is older than its last event.
    horizon = await do(_horizon(rows, most), org_id)
    if horizon is not None:
        lowest, more = horizon, True
    ids = await do(_ids(rows, lowest), org_id)
    newest = heapq.nlargest(limit + 1, ids, key=attrgetter("int"))
    if len(newest) > limit:
        newest = newest[:limit]
        lowest, more = newest[-1], True
    if not newest:
        return ListedEvents([], lowest, more)
    found = await database.fetch(_SQL["of_ids"], org_id, newest, newest[-1], newest[0], *wanted.values)
    return ListedEvents([StoredEvent(**row) for row in found], lowest, more)


async def _from_named(database: Database, org_id: OrgId, within: EventRange, dedup_id: str) -> EventRange:
    """Cut the range at the newest event with a dedup_id, if the service still remembers the dedup_id."""
    row = await database.row(_SQL["named"], org_id, dedup_id)
    if row is None:
        return within
    return within._replace(below=min(within.below, UUID(int=row["event_id"].int + 1)))


def _horizon(rows: list[Row], most: int) -> Steps[UUID | None]:
    """Return the newest event at which a part was cut, None if all parts are complete."""
    parts: dict[tuple[UUID, str], tuple[int, UUID]] = {}
    for place, row in enumerate(rows, start=1):
        key, event_id = (row["owner"], row["part"]), row["event_id"]
        number, oldest = parts.get(key, (0, event_id))
        parts[key] = number + 1, min(oldest, event_id)
        if place % _STEP_ROWS == 0:
            yield
    return max((oldest for number, oldest in parts.values() if number == most), default=None)


def _ids(rows: list[Row], lowest: UUID) -> Steps[set[UUID]]:
    """Return the events from `lowest` on whose delivery was not replayed."""
    ids = set()
    for place, row in enumerate(rows, start=1):
        if not row["replayed"] and row["event_id"] >= lowest:
            ids.add(row["event_id"])
        if place % _STEP_ROWS == 0:
            yield
    return ids


def _stored_event(row: Row) -> StoredEvent:
    return StoredEvent(**{name: value for name, value in row.items() if name not in ("looked_at", "last")})
