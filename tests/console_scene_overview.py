"""Numbers of the last two weeks for an organisation whose events `furnish` made."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from console_scene import Scene
from harness import Tenant
from triggers.postgres.database import Database
from triggers.statistics.tally import WHOLE

GAP = range(22, 31)
"""The minutes ago for which there are no numbers, as if the service had been killed."""


class Minute(NamedTuple):
    """A row of `statistics_minutes` or `statistics_hours`. The process of each row is its organisation."""

    org_id: UUID
    subscription_id: UUID
    began_at: datetime
    accepted: int
    delivered: int
    failed: int
    lag: list[int] | None
    backlog: int | None


async def count(database: Database, tenant: Tenant, scene: Scene) -> None:
    """Store statistics: a daily wave, an endpoint that fails for six minutes, and a time without numbers."""
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    hour = minute.replace(minute=0)
    hours, minutes = [], []
    for ago in range(2, 14 * 24):
        at, level = (
            hour - timedelta(hours=ago),
            900 + 700 * _wave(hour - timedelta(hours=ago)) + 37 * (ago % 7),
        )
        hours += _whole(tenant, at, level, 30 if ago == 9 else 0, 20 + ago % 9)
        hours.append(_part(tenant, scene.audit, at, level / 2))
        hours.append(_part(tenant, scene.billing, at, level / 3, 30 if ago == 9 else 0))
    for ago in range(1, 26 * 60):
        if ago in GAP:
            continue
        at, failed = minute - timedelta(minutes=ago), 3 if ago < 7 else 0
        level = 18 + 9 * _wave(at) + ago % 5
        minutes += _whole(tenant, at, level, failed, 140 + 4 * (20 - ago) if ago < 20 else 24 + ago % 4)
        minutes.append(_part(tenant, scene.audit, at, level / 2))
        minutes.append(_part(tenant, scene.billing, at, 0 if failed else level / 3, failed))
    async with database.connection() as connection:
        for table, rows, process in (
            ("statistics_hours", hours, ""),
            ("statistics_minutes", minutes, "process_id,"),
        ):
            await connection.execute(f"delete from {table}")
            for day in sorted({row.began_at.date() for row in rows}):
                await connection.execute(
                    f"create table if not exists {table}_p{day:%Y%m%d} partition of {table}"
                    f" for values from ('{day} 00:00Z') to ('{day + timedelta(days=1)} 00:00Z')"
                )
            await connection.executemany(
                f"insert into {table} ({process} org_id, subscription_id, began_at, accepted, duplicate,"
                f" dead, delivered, failed, lag, backlog) values ({'$1,' if process else ''} $1, $2, $3, $4,"
                " 0, 0, $5, $6, $7, $8)",
                rows,
            )
        await connection.execute(
            "insert into statistics_progress (name, done_until) values ('hours', $1)"
            " on conflict (name) do update set done_until = excluded.done_until",
            hour - timedelta(hours=1),
        )


def _wave(at: datetime) -> float:
    return math.sin((at.hour + at.minute / 60) / 24 * math.tau)


def _whole(tenant: Tenant, at: datetime, level: float, failed: int, backlog: int) -> list[Minute]:
    """The numbers of an organisation, and the mark that all backlogs were sampled."""
    numbers = _part(tenant, WHOLE, at, level, failed)
    return [
        numbers._replace(accepted=int(level), backlog=backlog),
        Minute(WHOLE, WHOLE, at, 0, 0, 0, None, 0),
    ]


def _part(tenant: Tenant, subscription_id: UUID, at: datetime, level: float, failed: int = 0) -> Minute:
    lag = [0, 0, int(level), int(level / 4), 0, int(level / 20), *[0] * 10]
    return Minute(tenant.id, subscription_id, at, 0, int(level), failed, lag, None)
