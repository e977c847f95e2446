"""Statements for the owners of groups of lanes: heartbeats, take-over, release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from triggers.domain import LaneId
from triggers.postgres.database import Connection, Database, statements
from triggers.push.store import Group

_SQL = statements(__name__)


async def register(connection: Connection, worker_id: UUID, name: str) -> None:
    """Register a worker that owns nothing yet."""
    await connection.execute(_SQL["register"], worker_id, name)


async def beat(connection: Connection, worker_id: UUID, lanes: int) -> datetime | None:
    """Write a heartbeat; return the database's time, or None if the worker was declared dead.

    `lanes`: the number of lanes in memory, which operators can see.
    """
    now: datetime | None = await connection.fetchval(_SQL["beat"], worker_id, lanes)
    return now


async def owned(connection: Connection, worker_id: UUID) -> dict[int, Group]:
    """The groups that a worker owns."""
    rows = await connection.fetch(_SQL["owned"], worker_id)
    return {
        row["id"]: Group(row["id"], row["token"], bool(row["probation"]), row["suspects_until"])
        for row in rows
    }


async def changed(connection: Connection, groups: Sequence[int], since: datetime) -> dict[LaneId, datetime]:
    """Subscriptions of these groups that were changed after `since`, and when."""
    rows = await connection.fetch(_SQL["changed"], groups, since)
    return {(row["org_id"], row["id"]): row["changed_at"] for row in rows}


async def heartbeats(connection: Connection) -> dict[UUID, datetime]:
    """The last heartbeat of each living worker."""
    return {row["id"]: row["heartbeat_at"] for row in await connection.fetch(_SQL["heartbeats"])}


async def bury(
    connection: Connection, silent: Mapping[UUID, datetime], trust_seconds: float, *, for_probation: bool
) -> list[int]:
    """Declare workers dead whose heartbeat has not changed since; return the groups that became free.

    `trust_seconds`: how long after a heartbeat its worker may begin attempts. `for_probation`: whether
    these deaths count towards the probation of their groups.
    """
    rows = await connection.fetch(
        _SQL["bury"],
        list(silent),
        list(silent.values()),
        timedelta(seconds=trust_seconds),
        for_probation,
    )
    return [row["id"] for row in rows]


async def take(connection: Connection, worker_id: UUID, token: UUID) -> list[int]:
    """Take free groups, up to a fair share of all; return which."""
    rows = await connection.fetch(_SQL["take"], worker_id, token)
    return [row["id"] for row in rows]


async def surplus(connection: Connection, worker_id: UUID) -> int:
    """The number of groups that a worker owns beyond its fair share."""
    number: int = await connection.fetchval(_SQL["surplus"], worker_id)
    return number


async def release(connection: Connection, worker_id: UUID, groups: Sequence[int]) -> None:
    """Give groups back."""
    await connection.execute(_SQL["release"], worker_id, groups)


async def retire(connection: Connection, worker_id: UUID) -> None:
    """Release all groups, and mark the worker as ended in good order."""
    await connection.execute(_SQL["retire"], worker_id)


async def forget_workers(database: Database) -> None:
    """Delete the rows of workers that have been dead for a day."""
    await database.fetch(_SQL["forget_workers"])
