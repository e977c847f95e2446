"""The partitions of the tables that are ranges of event ids: a week each, made ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from triggers.domain import first_id_at
from triggers.postgres.database import Connection

PARTITIONED: Final = ("events", "settled_deliveries", "attempts")
WIDTH: Final = timedelta(days=7)
"""Nine months fit into the forty partitions up to which planning stays cheap."""
AHEAD: Final = 2
_LOCK: Final = 0x7061_7274_6974_696F  # "partitio", as an advisory lock's number
_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)


async def ensure(connection: Connection) -> list[str]:
    """Make the partitions of now and of the next two weeks that do not exist; return their names.

    A partition is made as a table of its own and then attached, which lets accepts go on: making
    it in place would lock the parent against them.
    """
    now: datetime = await connection.fetchval("select now()")
    made = []
    for parent in PARTITIONED:
        for start in _starts(now):
            name = f"{parent}_p{start:%Y%m%d}"
            if await _exists(connection, name):
                continue
            async with connection.transaction():
                # Nodes that were started together come here together.
                await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
                if await _exists(connection, name):
                    continue
                await connection.execute(f"create table {name} (like {parent} including all)")
                await connection.execute(
                    f"alter table {parent} attach partition {name}"
                    f" for values from ('{first_id_at(start)}') to ('{first_id_at(start + WIDTH)}')"
                )
            made.append(name)
    return made


async def _exists(connection: Connection, name: str) -> bool:
    # Not by to_regclass: inside a transaction that goes by what this session remembers.
    found: bool = await connection.fetchval(
        "select exists (select from pg_class"
        " where relname = $1 and relnamespace = current_schema()::regnamespace)",
        name,
    )
    return found


def _starts(now: datetime) -> list[datetime]:
    this = _EPOCH + (now - _EPOCH) // WIDTH * WIDTH
    # The week before too: an id is minted before its insert, across the turn of a week.
    return [this + WIDTH * step for step in range(-1, AHEAD + 1)]
