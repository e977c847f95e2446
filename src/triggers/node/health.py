"""Checks whether this process can do its work, and names the reasons if it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from triggers.errors import TriggersError
from triggers.events.group_commit import FLUSHER
from triggers.http.kept import Kept
from triggers.keys.authentication import KEY_VERSION
from triggers.postgres import migrate
from triggers.postgres.database import Database
from triggers.push.ownership import HEARTBEAT

VITAL: Final = frozenset({FLUSHER, KEY_VERSION, HEARTBEAT})
"""Background work without which a node is not ready. Trouble of any other makes it degraded."""

_DISK_FULL: Final = "free space is below TRIGGERS_MIN_FREE_DISK: events are refused"
KEPT_SECONDS: Final = 0.5
"""How long the result of the database check is kept, however often `/readyz` is requested."""

Trouble = Callable[[], dict[str, str]]
"""Gives the background work that has failed the last time, or has ended, by name."""


class Watched(Protocol):
    """Background work that reports its failures."""

    @property
    def trouble(self) -> dict[str, str]:
        """By name: the work that failed when it last ran, or that has ended, with the reason."""


class Readiness(NamedTuple):
    """The answer of `/readyz`."""

    status: str
    """`ready`, `degraded` (some background work fails, or the disk is full; send traffic anyway), or
    `not ready`."""
    checks: dict[str, str]
    """Each check by name: `ok`, or what is wrong."""


class Health:
    """The state of this process. Redis is shown but never decisive: without it the service is only slower."""

    CHECK_SECONDS = 2.0

    def __init__(self, database: Database) -> None:
        self.stopping = False
        self.disk_full = False
        self.redis: bool | None = None
        self._database = database
        self._database_check: Kept[str] = Kept(KEPT_SECONDS)
        self._background: list[Watched] = []
        self.worker_trouble: Trouble = dict
        """Returns the failing parts of a worker in another process."""

    def watch(self, background: Watched) -> None:
        """Show the trouble of this background work."""
        self._background.append(background)

    def own_trouble(self) -> dict[str, str]:
        """The background work of this process that is in trouble, by name."""
        return {name: what for each in self._background for name, what in each.trouble.items()}

    async def readiness(self) -> Readiness:
        """Check everything."""
        trouble = self.own_trouble() | self.worker_trouble()
        decisive = {
            "database": await self._database_check.get("database", self._schema),
            "stopping": "the service is stopping" if self.stopping else "ok",
            **{name: what for name, what in trouble.items() if name in VITAL},
        }
        ready = all(found == "ok" for found in decisive.values())
        checks = {
            **decisive,
            "disk": _DISK_FULL if self.disk_full else "ok",
            **trouble,
        }
        if self.redis is not None:
            checks["redis"] = "ok" if self.redis else "unreachable: slower, nothing else"
        degraded = bool(trouble) or self.disk_full
        return Readiness("not ready" if not ready else "degraded" if degraded else "ready", checks)

    async def _schema(self) -> str:
        try:
            async with asyncio.timeout(self.CHECK_SECONDS):
                missing = await migrate.pending(self._database)
        except TriggersError as error:
            return error.message
        except TimeoutError:
            return f"no answer within {self.CHECK_SECONDS:g} seconds"
        return f"{len(missing)} migrations are to be applied" if missing else "ok"
