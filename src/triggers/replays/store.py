"""Storage of replays and backfills: jobs, their chunks, and their progress."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from triggers.deliveries.owing import PastEvent
from triggers.domain import OrgId, PageRequest
from triggers.errors import Conflict, NotFound
from triggers.postgres.database import (
    Connection,
    Database,
    Row,
    statements,
)

_SQL = statements(__name__)

MAX_RUNNING = 20
"""Maximum number of running jobs of one organisation."""


Action: TypeAlias = Literal["replay", "retry", "cancel"]
"""The work of a job: it sends deliveries again, makes pending ones due, or cancels pending ones."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A backfill or a replay of the events with `first_id` <= id < `end_id`; below `position` all is done.

    `planned` is how many deliveries it was expected to make, counted if `plan_exact`, else estimated.
    """

    org_id: OrgId
    id: UUID
    kind: str
    subscription_id: UUID
    status: str
    only_dead: bool
    event_types: list[str] | None
    first_id: UUID
    end_id: UUID
    position: UUID
    rate: int
    planned: int | None
    plan_exact: bool
    action: Action
    made: int
    not_before: datetime
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    reason: str | None


class NewReplay(NamedTuple):
    """A replay to be made, checked and planned. `not_before` None: it may begin at once."""

    id: UUID
    subscription_id: UUID
    only_dead: bool
    event_types: list[str] | None
    first_id: UUID
    end_id: UUID
    rate: int
    planned: int
    plan_exact: bool
    not_before: datetime | None
    action: Action


class FirstOf(NamedTuple):
    """The first `limit` events with first_id <= id < end_id."""

    first_id: UUID
    end_id: UUID
    limit: int


class WaitingJob(NamedTuple):
    """A job whose next chunk can run now."""

    org_id: OrgId
    id: UUID
    subscription_id: UUID


# ---- jobs ----------------------------------------------------------------------------------------


async def create(database: Database, org_id: OrgId, new: NewReplay) -> Job:
    """Make a replay that runs from now on.

    Raises:
        Conflict: too many of the organisation's jobs run.
    """
    row = await database.row(
        _SQL["insert"],
        org_id,
        new.id,
        new.subscription_id,
        new.only_dead,
        new.event_types,
        new.first_id,
        new.end_id,
        new.rate,
        new.planned,
        new.plan_exact,
        new.not_before,
        MAX_RUNNING,
        new.action,
    )
    if row is None:
        raise Conflict(
            f"{MAX_RUNNING} replays are running, which is the maximum. Wait until one ends, or cancel one."
        )
    return _job(row)


async def find(database: Database, org_id: OrgId, job_id: UUID | None) -> Job:
    """A job by its id.

    Raises:
        NotFound: the organisation has none such.
    """
    row = await database.row(_SQL["one"], org_id, job_id)
    if row is None:
        raise NotFound("No replay has this id.")
    return _job(row)


async def listed(
    database: Database, org_id: OrgId, page: PageRequest, *, subscription_id: UUID | None, status: str | None
) -> list[Job]:
    """Jobs, newest first."""
    rows = await database.fetch(_SQL["listed"], org_id, page.below, subscription_id, status, page.limit)
    return [_job(row) for row in rows]


async def cancel(database: Database, org_id: OrgId, job_id: UUID | None, reason: str) -> Job:
    """Cancel a running job. Deliveries that it created are kept. A job that has ended is not changed."""
    row = await database.row(_SQL["cancel"], org_id, job_id, reason)
    if row is None:
        return await find(database, org_id, job_id)
    async with database.connection() as connection:
        await let_live_go(connection, org_id, row["subscription_id"])
    return _job(row)


# ---- chunks --------------------------------------------------------------------------------------


async def waiting(database: Database, limit: int) -> list[WaitingJob]:
    """Jobs of all organisations whose next chunk can run now."""
    return [
        WaitingJob(OrgId(row["org_id"]), row["id"], row["subscription_id"])
        for row in await database.fetch(_SQL["waiting"], limit)
    ]


async def claim(connection: Connection, org_id: OrgId, job_id: UUID) -> Job | None:
    """Lock a job until the transaction ends. None if it is locked by another node or cannot continue."""
    row = await connection.fetchrow(_SQL["claim"], org_id, job_id)
    return None if row is None else _job(row)


async def advance(connection: Connection, job: Job, position: UUID, made: int, seconds: float) -> None:
    """Note that all below `position` is done, and what may come next in `seconds`; be done at the end."""
    await connection.execute(_SQL["advance"], job.org_id, job.id, position, made, timedelta(seconds=seconds))


async def hold(connection: Connection, job: Job, seconds: float, reason: str) -> None:
    """Make a job wait, and note the reason."""
    await connection.execute(_SQL["hold"], job.org_id, job.id, timedelta(seconds=seconds), reason)


async def finish(connection: Connection, waiting: WaitingJob, status: str, reason: str) -> None:
    """End a job before its end."""
    await connection.execute(_SQL["finish"], waiting.org_id, waiting.id, status, reason)


async def let_live_go(connection: Connection, org_id: UUID, subscription_id: UUID) -> None:
    """A backfill has ended: in a lane that keeps order live deliveries have waited for that."""
    await connection.execute(_SQL["let_live_go"], org_id, subscription_id)


async def due_already(connection: Connection, org_id: UUID, subscription_id: UUID, most: int) -> int:
    """The number of deliveries that are due in the lane or inbox, at most `most`."""
    number: int = await connection.fetchval(_SQL["due_already"], org_id, subscription_id, most)
    return number


# ---- the past ------------------------------------------------------------------------------------


async def first_event(database: Database, org_id: OrgId) -> UUID | None:
    """The oldest stored event."""
    row = await database.row(_SQL["first_event"], org_id)
    return None if row is None else row["id"]


async def events(connection: Connection, org_id: UUID, of: FirstOf) -> list[PastEvent]:
    """The first events of a range."""
    rows = await connection.fetch(_SQL["events"], org_id, *of)
    return [PastEvent(**row) for row in rows]


async def unhappy(connection: Connection, org_id: UUID, subscription_id: UUID, of: FirstOf) -> list[UUID]:
    """The first events of a range with a delivery that did not arrive; one may be named twice."""
    rows = await connection.fetch(_SQL["unhappy"], org_id, subscription_id, *of)
    return [row["event_id"] for row in rows]


async def to_make_again(
    connection: Connection, org_id: UUID, subscription_id: UUID, ids: Sequence[UUID], *, only_unhappy: bool
) -> int:
    """The number of these events for which a replay would create a delivery."""
    number: int = await connection.fetchval(_SQL["to_make_again"], org_id, subscription_id, ids, only_unhappy)
    return number


# ---- pending deliveries --------------------------------------------------------------------------


class WaitingDelivery(NamedTuple):
    """An unsettled delivery. `concerned`: whether the action applies to it."""

    event_id: UUID
    generation: int
    concerned: bool


async def waiting_deliveries(
    connection: Connection, org_id: UUID, subscription_id: UUID, of: FirstOf, action: Action
) -> list[WaitingDelivery]:
    """Return the first unsettled deliveries of a range of events."""
    rows = await connection.fetch(_SQL["waiting_deliveries"], org_id, subscription_id, *of, action)
    return [WaitingDelivery(*row) for row in rows]


async def lock_waiting(
    connection: Connection, org_id: UUID, subscription_id: UUID, ids: Sequence[UUID]
) -> set[UUID]:
    """Lock deliveries of these events without waiting. Return the events whose deliveries are locked."""
    rows = await connection.fetch(_SQL["lock_waiting"], org_id, subscription_id, ids)
    return {row["event_id"] for row in rows}


async def make_due(connection: Connection, org_id: UUID, subscription_id: UUID, ids: Sequence[UUID]) -> int:
    """Make the pending ones of these locked deliveries due. Return how many are due then."""
    return len(await connection.fetch(_SQL["make_due"], org_id, subscription_id, ids))


async def cancel_waiting(
    connection: Connection, org_id: UUID, subscription_id: UUID, ids: Sequence[UUID], reason: str
) -> int:
    """Cancel those locked deliveries that are not leased. Return their number."""
    gone = await connection.fetch(_SQL["cancel_waiting"], org_id, subscription_id, ids, reason)
    if gone:
        await connection.execute(_SQL["tell_lane"], org_id, subscription_id)
    return len(gone)


def _job(row: Row) -> Job:
    """Return the job of a row. Callers see the stored status `acting` as `running`."""
    job = Job(**{name: row[name] for name in Job.__struct_fields__})
    return msgspec.structs.replace(job, status="running") if job.status == "acting" else job
