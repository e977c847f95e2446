"""Whether this process can do its work, and why not."""

from __future__ import annotations

import asyncio

from triggers.errors import TriggersError
from triggers.postgres import migrate
from triggers.postgres.database import Database


class Health:
    """What `/readyz` says. Redis is shown but never decisive: without it the service only slows."""

    CHECK_SECONDS = 2.0

    def __init__(self, database: Database) -> None:
        self.stopping = False
        self.disk_full = False
        self.redis: bool | None = None
        self._database = database

    async def checks(self) -> dict[str, str]:
        """Each check by name: `ok`, or what is wrong."""
        return {
            "database": await self._schema(),
            "disk": "free space is below the mark: events are refused" if self.disk_full else "ok",
            "stopping": "the service is stopping" if self.stopping else "ok",
        }

    async def _schema(self) -> str:
        try:
            async with asyncio.timeout(self.CHECK_SECONDS):
                missing = await migrate.pending(self._database)
        except TriggersError as error:
            return error.message
        except TimeoutError:
            return f"no answer within {self.CHECK_SECONDS:g} seconds"
        return f"{len(missing)} migrations are to be applied" if missing else "ok"
