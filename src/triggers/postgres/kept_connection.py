"""A connection of one task's own, opened again whenever it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from triggers.errors import DatabaseUnavailable
from triggers.postgres.database import Connection, Database, unavailable


class KeptConnection:
    """Used by one task at a time.

    closed ── use() ──▶ open ── the database fails, the task is cancelled, drop() ──▶ closed
    """

    def __init__(self, database: Database, seconds: float, plans: Mapping[str, str]) -> None:
        """Its statements may take `seconds`; `plans` is PLAN_ANEW or PLAN_ONCE."""
        self._database = database
        self._seconds = seconds
        self._plans = plans
        self._connection: Connection | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """The connection. It stays open for the next use unless the database fails this one.

        Raises:
            DatabaseUnavailable: for every error that is the server's state and not the statement's.
        """
        if self._connection is None:
            self._connection = await self._database.connect(self._seconds, self._plans)
        try:
            with unavailable():
                yield self._connection
        except (DatabaseUnavailable, asyncio.CancelledError):
            self.drop()
            raise

    def drop(self) -> None:
        """Close it at once."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
