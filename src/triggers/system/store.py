"""Statements about PostgreSQL and the processes that use it. None of them reads a table that grows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from triggers.errors import DatabaseUnavailable
from triggers.postgres.database import API_NAME, Connection, Database, Row, statements

SECONDS: Final = 2
"""Maximum time for each statement."""
MOST_PROCESSES: Final = 200
MOST_TABLES: Final = 20

_SQL = statements(__name__)


class Seen(NamedTuple):
    """Rows of the statements of the same name."""

    server: Row
    api_processes: list[Row]
    workers: list[Row]
    groups: Row


async def look(database: Database) -> Seen:
    """Read everything but the sizes of tables."""
    async with _briefly(database) as connection:
        return Seen(
            await connection.fetchrow(_SQL["server"]),
            await connection.fetch(_SQL["api_processes"], API_NAME, MOST_PROCESSES),
            await connection.fetch(_SQL["workers"], MOST_PROCESSES),
            await connection.fetchrow(_SQL["groups"]),
        )


async def tables(database: Database) -> list[Row] | None:
    """Return the largest tables, or None if that takes too long, for example because one is being altered."""
    try:
        async with _briefly(database) as connection:
            rows: list[Row] = await connection.fetch(_SQL["tables"], MOST_TABLES)
            return rows
    except DatabaseUnavailable:
        return None


@asynccontextmanager
async def _briefly(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as connection, connection.transaction(readonly=True):
        await connection.execute(f"set local statement_timeout = '{SECONDS}s'")
        yield connection
