"""Questions to the service's own PostgreSQL: what is really there, and how durable it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from bench.processes import Service

T = TypeVar("T")


def with_connection(service: Service, use: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Call `use` with a connection of its own."""

    async def call() -> T:
        connection = await asyncpg.connect(service.database_url)
        try:
            return await use(connection)
        finally:
            await connection.close()

    return asyncio.run(call())


def value(service: Service, statement: str, *values: Any) -> Any:
    """The one value of a statement."""
    return with_connection(service, lambda connection: connection.fetchval(statement, *values))


def durability(service: Service) -> dict[str, str]:
    """What the server says of how it commits. The service sets synchronous_commit on each connection."""

    async def ask(connection: asyncpg.Connection) -> dict[str, str]:
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")
        return {name: await connection.fetchval("select current_setting($1)", name) for name in names}

    return with_connection(service, ask)
