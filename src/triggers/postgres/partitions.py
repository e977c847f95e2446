"""Makes partitions by ranges of event ids or of times ahead, and drops old ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from triggers.domain import first_id_at
from triggers.postgres.database import Connection


class Partitioned(NamedTuple):
    """A partitioned table, and the width of each partition."""

    table: str
    width: timedelta
    by_id: bool
    """Whether the ranges are ranges of ids, which begin with a time, or else ranges of times."""

    def bound(self, moment: datetime) -> str:
        """The value at which a partition begins or ends."""
        return str(first_id_at(moment) if self.by_id else moment)


WEEK: Final = timedelta(days=7)
"""Nine months fit into the forty partitions up to which planning stays cheap."""
DAY: Final = timedelta(days=1)
PARTITIONED: Final = (
    Partitioned("events", WEEK, by_id=True),
    Partitioned("settled_deliveries", WEEK, by_id=True),
    Partitioned("attempts", WEEK, by_id=True),
    Partitioned("statistics_minutes", DAY, by_id=False),
    Partitioned("statistics_hours", DAY, by_id=False),
)
AHEAD: Final = 2
LOCK_TIMEOUT: Final = "1s"
"""Maximum time for which a drop waits for the table's lock. Later users of the table wait as long."""
_LOCK: Final = 0x7061_7274_6974_696F  # "partitio", as an advisory lock's number
_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)


async def ensure(connection: Connection) -> list[str]:
    """Make the current and the next two partitions of each table if they do not exist. Return the new names.

    A partition is made as a separate table and then attached, because making it in place would lock the
    parent table against accepts.
    """
    now: datetime = await connection.fetchval("select now()")
    made = []
    for parent in PARTITIONED:
        for start in _starts(now, parent.width):
            name = f"{parent.table}_p{start:%Y%m%d}"
            if await _exists(connection, name):
                continue
            async with connection.transaction():
                # Nodes that were started together come here together.
                await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
                if await _exists(connection, name):
                    continue
                await connection.execute(f"create table {name} (like {parent.table} including all)")
                await connection.execute(
                    f"alter table {parent.table} attach partition {name}"
                    f" for values from ('{parent.bound(start)}') to ('{parent.bound(start + parent.width)}')"
                )
            made.append(name)
    return made


async def drop_before(connection: Connection, table: str, moment: datetime) -> list[str]:
    """Drop the partitions of a table that end at `moment` or before; return their names."""
    width = next(each.width for each in PARTITIONED if each.table == table)
    rows = await connection.fetch(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = to_regclass($1)",
        table,
    )
    old = sorted(row["relname"] for row in rows if _start_of(row["relname"]) + width <= moment)
    for name in old:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
            await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
            await connection.execute(f"drop table if exists {name}")
    return old


async def _exists(connection: Connection, name: str) -> bool:
    # Not by to_regclass: inside a transaction that goes by what this session remembers.
    found: bool = await connection.fetchval(
        "select exists (select from pg_class"
        " where relname = $1 and relnamespace = current_schema()::regnamespace)",
        name,
    )
    return found


def _start_of(name: str) -> datetime:
    return datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC)


def _starts(now: datetime, width: timedelta) -> list[datetime]:
    this = _EPOCH + (now - _EPOCH) // width * width
    # The partition before is needed too, because a week may end between the making of an id and its insert.
    return [this + width * step for step in range(-1, AHEAD + 1)]
