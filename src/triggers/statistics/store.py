"""Statements for statistics. Each process writes rows of minutes. One node makes rows of hours from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from triggers.domain import OrgId, PageRequest
from triggers.fairness.pace import Steps, do
from triggers.postgres import partitions
from triggers.postgres.database import Database, Row, columns, statements
from triggers.statistics import tally
from triggers.statistics.tally import WHOLE

MINUTES_KEPT: Final = timedelta(hours=48)
HOURS_KEPT: Final = timedelta(days=30)
HOUR_AFTER: Final = timedelta(minutes=tally.ENDED_MINUTES + 5)
"""Delay after an hour before its rows are made. By then every process has written its minutes."""
MOST_WAITING: Final = 100_000
"""Maximum number of deliveries of an organisation that a sample counts."""
ORGANISATIONS_AT_ONCE: Final = 10
WORST: Final = 10

_SQL = statements(__name__)


class Span(NamedTuple):
    """A time range in steps."""

    since: datetime
    step: timedelta
    hours_until: datetime
    """Rows of hours are read before this time, and rows of minutes from this time on."""


# ---- writing ---------------------------------------------------------------------------------------


async def write(database: Database, process_id: UUID, rows: Sequence[tally.Row]) -> None:
    """Write rows with absolute values. They replace those that the process wrote for the same minutes."""
    if not rows:
        return
    values = await do(_values(rows), None)
    async with database.connection() as connection, connection.transaction():
        # A crash of PostgreSQL may lose these rows, just as a crash of the process loses its counts.
        await connection.execute("set local synchronous_commit = off")
        await connection.execute(_SQL["write"], process_id, *columns(values))


def _values(rows: Sequence[tally.Row]) -> Steps[list[tuple[Any, ...]]]:
    values = []
    for place, row in enumerate(rows, start=1):
        values.append(_value(row))
        if place % tally.STEP_ROWS == 0:
            yield
    return values


def _value(row: tally.Row) -> tuple[UUID, UUID, int, int, int, int, int, int, str | None]:
    (org_id, subscription_id), counts = row.key, row.counts
    lag = f"{{{','.join(map(str, counts.lag))}}}" if any(counts.lag) else None
    return (
        org_id,
        subscription_id,
        row.minute,
        counts.accepted,
        counts.duplicate,
        counts.delivered,
        counts.failed,
        counts.dead,
        lag,
    )


async def make_hour(database: Database) -> bool:
    """Make the rows of the next hour from those of its minutes.

    Return False if no hour can be made now, or if another node is making it.
    """
    async with database.connection() as connection, connection.transaction():
        await connection.execute(_SQL["begin_hours"])
        hour = await connection.fetchval(_SQL["next_hour"], HOUR_AFTER)
        if hour is None:
            return False
        await connection.execute(_SQL["make_hour"], hour)
        await connection.execute(_SQL["end_hour"])
        return True


async def claim_minute(database: Database) -> datetime | None:
    """Return the current minute if no other node has begun to sample its backlogs, or else None."""
    row = await database.row(_SQL["claim_minute"])
    return None if row is None else row[0]


async def sample_backlogs(database: Database, minute: datetime, after: UUID) -> UUID | None:
    """Count the unsettled deliveries of the next organisations after `after`.

    Return the last of these organisations, or None if there are no more.
    """
    async with database.connection() as connection, connection.transaction():
        # The table of deliveries may be nearly empty when this is planned, and large when it is used.
        await connection.execute("set local enable_seqscan = off")
        rows = await connection.fetch(
            _SQL["sample_backlogs"], after, minute, ORGANISATIONS_AT_ONCE, MOST_WAITING, WHOLE
        )
        if len(rows) == ORGANISATIONS_AT_ONCE:
            return max(UUID(bytes=row[0].bytes) for row in rows)
        await connection.execute(_SQL["end_sample"], WHOLE, minute)
        return None


async def drop_old(database: Database) -> list[str]:
    """Drop the partitions that have only rows that are too old. Return their names."""
    async with database.connection() as connection:
        kept = await connection.fetchrow(_SQL["kept_from"], MINUTES_KEPT, HOURS_KEPT)
        return [
            *await partitions.drop_before(connection, "statistics_minutes", kept["minutes"]),
            *await partitions.drop_before(connection, "statistics_hours", kept["hours"]),
        ]


# ---- reading ---------------------------------------------------------------------------------------


async def has_subscription(database: Database, org_id: OrgId, subscription_id: UUID) -> bool:
    """Whether an organisation has, or had, this push subscription."""
    row = await database.row(_SQL["has_subscription"], org_id, subscription_id)
    return bool(row and row[0])


async def now(database: Database) -> tuple[datetime, datetime]:
    """Return the database's time, and the time until which rows of hours are made."""
    row = await database.row(_SQL["now"])
    assert row is not None
    return row["now"], row["hours_until"] or row["now"] - HOURS_KEPT


async def series(database: Database, org_id: OrgId, subscription_id: UUID, span: Span) -> list[Row]:
    """Return the numbers of a subscription, or of the organisation, by step. Empty steps are omitted."""
    start = max(span.since, span.hours_until)
    rows = await database.fetch(_SQL["minutes"], org_id, subscription_id, start, span.step)
    if start > span.since:
        rows += await database.fetch(_SQL["hours"], org_id, subscription_id, span.since, start)
    return rows


async def sampled(database: Database, span: Span) -> set[datetime]:
    """Return the steps in which the backlogs of all organisations were sampled."""
    start = max(span.since, span.hours_until)
    rows = await database.fetch(_SQL["sampled_minutes"], WHOLE, span.step, start)
    if start > span.since:
        rows += await database.fetch(_SQL["sampled_hours"], WHOLE, span.since, start)
    return {row["at"] for row in rows}


async def known_minutes(
    database: Database, org_id: OrgId, subscription_id: UUID, since: datetime
) -> set[datetime]:
    """Return the minutes that have numbers, or in which the backlogs were sampled."""
    rows = await database.fetch(_SQL["known_minutes"], org_id, subscription_id, WHOLE, since)
    return {row["at"] for row in rows}


async def subscription_ids(database: Database, org_id: OrgId, page: PageRequest) -> list[UUID]:
    """Return the ids of a page of the organisation's push subscriptions, in the order of their creation."""
    rows = await database.fetch(_SQL["subscription_ids"], org_id, page.above, page.limit)
    return [UUID(bytes=row["id"].bytes) for row in rows]


async def subscription_hours(
    database: Database, org_id: OrgId, ids: Sequence[UUID], since: datetime, hours_until: datetime
) -> list[Row]:
    """Return the numbers of subscriptions by hour. Hours in which nothing was counted are omitted."""
    return await database.fetch(_SQL["subscription_hours"], org_id, ids, since, hours_until)


async def worst(database: Database, org_id: OrgId, since: datetime, hours_until: datetime) -> list[Row]:
    """Return the subscriptions of an organisation with the most failures since a time, at most WORST."""
    return await database.fetch(_SQL["worst"], org_id, WHOLE, since, hours_until, WORST)


async def use(database: Database, page: PageRequest, since: datetime, hours_until: datetime) -> list[Row]:
    """Return the use of organisations in the order of their creation, with events accepted since a time."""
    return await database.fetch(_SQL["use"], page.above, page.limit, since, hours_until, WHOLE)
