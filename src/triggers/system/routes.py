"""The state of the service over HTTP."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from typing import Final

from triggers import __version__
from triggers.domain import Caller, Scope, rfc3339
from triggers.http.kept import Kept
from triggers.http.route import Route
from triggers.http.views import optional_timestamp
from triggers.postgres.database import API_NAME, Database, Row
from triggers.system import store
from triggers.system.body import (
    ApiProcessView,
    GroupsView,
    NodeFacts,
    PoolView,
    PostgresView,
    SystemState,
    TableView,
    VersionsView,
    WorkerView,
)

KEPT_SECONDS: Final = 1.0
"""Time for which the answer is kept, however often it is requested."""


class SystemRoutes:
    """Handlers of this room's URLs."""

    def __init__(self, database: Database, facts: Callable[[], Awaitable[NodeFacts]]) -> None:
        """`facts` returns the facts that only this process knows."""
        self._database = database
        self._facts = facts
        self._kept: Kept[SystemState] = Kept(KEPT_SECONDS)

    async def get_system(self, caller: Caller) -> SystemState:
        """Get the state of the service: its processes, PostgreSQL, Redis, disk, versions and settings.

        `status`, `checks`, `redis`, `disk`, `settings` and the pool are those of the process that answers.
        The answer contains no secrets, and is at most a second old.
        """
        del caller
        return await self._kept.get("system", self._state)

    async def _state(self) -> SystemState:
        facts = await self._facts()
        seen = await store.look(self._database)
        return SystemState(
            status=facts.status,
            checks=facts.checks,
            redis=facts.redis,
            disk=facts.disk,
            settings=facts.settings,
            at=rfc3339(seen.server["now"]),
            api_processes=[
                _api_process(row, self._database.name.removeprefix(API_NAME)) for row in seen.api_processes
            ],
            workers=[_worker(row) for row in seen.workers],
            groups=GroupsView(**seen.groups),
            postgresql=_postgres(seen.server, self._database.pool_use(), await store.tables(self._database)),
            versions=VersionsView(
                triggers=__version__,
                python=platform.python_version(),
                postgresql=seen.server["version"],
                migration=seen.server["migration"],
            ),
        )


def _api_process(row: Row, this: str) -> ApiProcessView:
    return ApiProcessView(
        name=row["name"],
        since=rfc3339(row["since"]),
        last_active_at=rfc3339(row["last_active_at"]),
        idle_seconds=row["idle_seconds"],
        connections=row["connections"],
        is_this=row["name"] == this,
    )


def _worker(row: Row) -> WorkerView:
    return WorkerView(
        id=row["id"],
        name=row["name"],
        since=rfc3339(row["started_at"]),
        heartbeat_at=rfc3339(row["heartbeat_at"]),
        heartbeat_age_seconds=row["heartbeat_age_seconds"],
        groups=row["groups"],
        lanes=row["lanes"],
    )


def _postgres(server: Row, pool: tuple[int, int, int], tables: list[Row] | None) -> PostgresView:
    in_use, open_now, most = pool
    return PostgresView(
        pool=PoolView(in_use=in_use, open=open_now, most=most),
        connections=server["connections"],
        max_connections=server["max_connections"],
        oldest_xmin_age=server["oldest_xmin_age"],
        oldest_transaction_seconds=server["oldest_transaction_seconds"],
        tables=None if tables is None else [_table(row) for row in tables],
    )


def _table(row: Row) -> TableView:
    return TableView(**{**row, "vacuumed_at": optional_timestamp(row["vacuumed_at"])})


ROUTES = (Route("GET", "/v1/admin/system", SystemRoutes.get_system, Scope.ADMIN),)
