"""Storage of overviews of deliveries: the counts of a subscription, and all deliveries of one event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from triggers.deliveries.store import Delivery, delivery_of
from triggers.domain import AttemptOutcome, OrgId
from triggers.postgres.database import Database, Row, statements
from triggers.subscriptions.shown_name import shown_name

_SQL = statements(__name__)

MOST_COUNTED: Final = 1_000
"""The numbers of a subscription are counted up to here."""
MAX_LOOKED_AT: Final = 10_000
"""Maximum number of subscriptions of an organisation that are looked at."""


class Behind(NamedTuple):
    """A subscription or an inbox that has unsettled or dead deliveries."""

    id: UUID
    kind: str
    name: str
    status: str
    failing_since: datetime | None


class CappedCount(NamedTuple):
    """A number. It is a lower bound if it is not `exact`."""

    number: int
    exact: bool


class Backlog(NamedTuple):
    """The unsettled and the dead deliveries of one subscription or inbox.

    `last_reason` is the failure of the last attempt, or else the reason of the newest dead delivery.
    """

    unsettled: CappedCount
    leased: CappedCount
    dead: CappedCount
    oldest_at: datetime | None
    last_reason: str | None
    last_status_code: int | None


class Sent(NamedTuple):
    """A delivery of an event, with what a reader wants to know of its subscription."""

    delivery: Delivery
    name: str
    target_url: str | None
    retry_delays: list[float] | None


class Named(NamedTuple):
    """The kind of a subscription or an inbox, and the name that people see."""

    kind: str
    name: str


class WantedBehind(NamedTuple):
    """The subscriptions to list: of a kind, or only one of them; a page that begins at place `start`."""

    kind: str
    subscription_id: UUID | None
    start: int
    limit: int


class SentTo(NamedTuple):
    """The first deliveries of an event, the number of all, and of subscriptions and inboxes without one."""

    first: list[Sent]
    total: int
    unsent: int


async def worst(database: Database, org_id: OrgId, wanted: WantedBehind) -> list[Behind]:
    """Return subscriptions that have unsettled or dead deliveries, worst first.

    Failing ones come first, then those with dead deliveries, then those that are paused or disabled. Within
    each of these, the one that has waited longest comes first.
    """
    kind, subscription_id, start, limit = wanted
    rows = await database.fetch(_SQL["worst"], org_id, kind, MAX_LOOKED_AT, limit, start, subscription_id)
    return [
        Behind(
            row["id"],
            row["kind"],
            shown_name(row["name"], row["key"], row["target_url"]),
            row["status"],
            row["failing_since"],
        )
        for row in rows
    ]


async def names(database: Database, org_id: OrgId, ids: Sequence[UUID]) -> dict[UUID, Named]:
    """Return what people call subscriptions and inboxes, also if they were deleted."""
    if not ids:
        return {}
    rows = await database.fetch(_SQL["names"], org_id, ids)
    return {
        row["id"]: Named(row["kind"], shown_name(row["name"], row["key"], row["target_url"])) for row in rows
    }


async def backlogs(database: Database, org_id: OrgId, ids: Sequence[UUID]) -> dict[UUID, Backlog]:
    """Count the deliveries of subscriptions or inboxes, each up to MOST_COUNTED."""
    if not ids:
        return {}
    rows = await database.fetch(_SQL["counts"], org_id, ids, MOST_COUNTED + 1)
    return {row["id"]: _backlog(row) for row in rows}


async def of_event(database: Database, org_id: OrgId, event_id: UUID, limit: int) -> SentTo:
    """Return the deliveries of an event, those that need attention first. Each is the latest generation."""
    rows = await database.fetch(_SQL["of_event"], org_id, event_id, limit)
    found = [
        Sent(
            delivery_of(row),
            shown_name(row["name"], row["key"], row["target_url"]),
            row["target_url"],
            row["retry_delays"],
        )
        for row in rows
    ]
    counted = await database.row(_SQL["subscriptions"], org_id, MAX_LOOKED_AT)
    assert counted is not None
    total, stay = (rows[0]["total"], rows[0]["stay"]) if rows else (0, 0)
    return SentTo(found, total, max(0, counted["number"] - stay))


def _backlog(row: Row) -> Backlog:
    failed = row["outcome"] not in (None, AttemptOutcome.DELIVERED)
    return Backlog(
        unsettled=_counted(row["waiting"], row["waiting"]),
        leased=_counted(row["leased"], row["waiting"]),
        dead=_counted(row["dead"], row["dead_looked_at"]),
        oldest_at=row["oldest_at"],
        last_reason=row["reason"] if failed else row["dead_reason"],
        last_status_code=row["status_code"] if failed else None,
    )


def _counted(number: int, looked_at: int) -> CappedCount:
    return CappedCount(min(number, MOST_COUNTED), looked_at <= MOST_COUNTED)
