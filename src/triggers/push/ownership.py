"""The groups of lanes that this worker owns, and the heartbeat without which it may not send.

A worker writes a heartbeat every BEAT_SECONDS. If it writes none for TAKEOVER_SECONDS in which heartbeats of
another worker succeed, that worker declares it dead. This is final: its groups become free, and their tokens
become invalid. A worker begins no attempt if its last successful heartbeat began more than TRUST_SECONDS ago
by its own monotonic clock, so two workers never begin attempts of a delivery at once. With each heartbeat it
also reads the changes of subscriptions, so it applies a change within TRUST_SECONDS, or sends nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from triggers.errors import DatabaseUnavailable
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import PLAN_ANEW, Connection, Database
from triggers.postgres.kept_connection import KeptConnection
from triggers.postgres.time_bounds import (
    BEAT_SECONDS,
    BEAT_STATEMENT_SECONDS,
    CHANGES_SECONDS,
    LONG_LOOK_SECONDS,
    LONGEST_GAP_SECONDS,
    TAKEOVER_SECONDS,
    TRUST_SECONDS,
)
from triggers.push import ownership_store
from triggers.push.lanes import Lanes
from triggers.push.silence import Observation, Silence
from triggers.push.store import Group

log = structlog.get_logger()

BALANCE_SECONDS: Final = 1.0
LONG_LOOK_EVERY_SECONDS: Final = 30.0
HEARTBEAT: Final = "heartbeat"
"""Name of the heartbeat loop. Nothing is sent while it does not run."""

_NAME: Final = f"{socket.gethostname()}:{os.getpid()}"


class Ownership:
    """The groups of lanes that this worker owns, and its heartbeat."""

    def __init__(
        self,
        database: Database,
        clock: DatabaseClock,
        lanes: Lanes,
        *,
        gained: Callable[[list[int]], None],
        busy: Callable[[int], bool],
    ) -> None:
        """`lanes` gets the groups that are lost, and the subscriptions that have changed.

        `gained` is called with groups. `busy`: whether a delivery of a group is in flight or not settled.
        Such a group is not released.
        """
        self.worker_id: UUID = clock.mint()
        self._database = database
        self._connection = KeptConnection(database, BEAT_STATEMENT_SECONDS, PLAN_ANEW)
        self._clock = clock
        self._lanes = lanes
        self._gained = gained
        self._busy = busy
        self._leaving: set[int] = set()
        self._groups: dict[int, Group] = {}
        self._silence = Silence(TAKEOVER_SECONDS, longest_gap_seconds=LONGEST_GAP_SECONDS)
        self._beat_at = float("-inf")
        self._balanced_at = float("-inf")
        self._looked_at: datetime | None = None  # at changes, by the database's clock
        self._long_look_at = float("-inf")

    async def register(self) -> None:
        """Register this worker in the database."""
        async with self._database.connection() as connection:
            await ownership_store.register(connection, self.worker_id, _NAME)

    def close(self) -> None:
        """Close its connection."""
        self._connection.drop()

    async def retire(self) -> None:
        """Release all groups and sign off, so that other workers can take the groups at once."""
        try:
            async with self._database.connection() as connection:
                await ownership_store.retire(connection, self.worker_id)
        except DatabaseUnavailable:
            log.warning("groups_not_released", reason="the database does not answer; they will be taken over")

    @property
    def groups(self) -> list[int]:
        """The ids of the groups owned."""
        return list(self._groups)

    def group(self, group_id: int) -> Group | None:
        """A group if it is owned."""
        return self._groups.get(group_id)

    def owns(self, group_id: int) -> bool:
        """Whether a group is owned."""
        return group_id in self._groups

    def sendable(self, group_id: int) -> Group | None:
        """The group if an attempt of it may begin now."""
        if group_id in self._leaving or time.monotonic() - self._beat_at >= TRUST_SECONDS:
            return None
        return self._groups.get(group_id)

    async def beat(self) -> None:
        """Write a heartbeat, read ownership and changes, and wait until the next heartbeat is due.

        Raises:
            DatabaseUnavailable: the heartbeat failed; unless one soon succeeds, nothing more is sent.
        """
        try:
            async with self._connection.use() as connection:
                await self._beat(connection)
        except Exception:
            self._silence.beat_failed()
            raise
        await asyncio.sleep(BEAT_SECONDS)

    async def _beat(self, connection: Connection) -> None:
        began = time.monotonic()
        now = await ownership_store.beat(connection, self.worker_id, len(self._lanes))
        if now is None:
            await self._begin_anew(connection)
            return
        self._clock.learn(now, began)
        self._learn(await ownership_store.owned(connection, self.worker_id))
        await self._look_at_changes(connection, now)
        self._beat_at = began
        # Behind the beat: what this waits for must not make a worker doubt itself.
        found = self._silence.beat_succeeded(began, await ownership_store.heartbeats(connection))
        if found.silent or began - self._balanced_at >= BALANCE_SECONDS:
            self._balanced_at = began
            await self._balance(connection, found)
            self._learn(await ownership_store.owned(connection, self.worker_id))

    async def _look_at_changes(self, connection: Connection, now: datetime) -> None:
        """Report changes since shortly before the last look, however long ago that was."""
        back = CHANGES_SECONDS
        if time.monotonic() - self._long_look_at >= LONG_LOOK_EVERY_SECONDS:
            self._long_look_at = time.monotonic()
            back = LONG_LOOK_SECONDS
        since = min(now, self._looked_at or now) - timedelta(seconds=back)
        self._lanes.changed(await ownership_store.changed(connection, list(self._groups), since))
        self._looked_at = now

    async def _balance(self, connection: Connection, found: Observation) -> None:
        freed = await ownership_store.bury(
            connection, found.silent, TRUST_SECONDS, for_probation=found.unbroken
        )
        if freed:
            log.warning("dead_worker_found", groups=len(freed))
        surplus = await ownership_store.surplus(connection, self.worker_id)
        if not surplus:
            self._leaving.clear()
            await ownership_store.take(connection, self.worker_id, self._clock.mint())
            return
        # A group leaves when nothing of it is in flight any more: its next owner sends nothing twice.
        self._leaving = set(sorted(self._groups)[-surplus:])
        quiet = [group_id for group_id in self._leaving if not self._busy(group_id)]
        if quiet:
            await ownership_store.release(connection, self.worker_id, quiet)

    def _learn(self, groups: dict[int, Group]) -> None:
        gained = [group_id for group_id in groups if group_id not in self._groups]
        lost = [group_id for group_id in self._groups if group_id not in groups]
        self._groups = groups
        self._leaving.intersection_update(groups)
        if lost:
            log.info("lanes_lost", groups=len(lost))
            self._lanes.lost(lost)
        if gained:
            log.info("lanes_gained", groups=len(gained))
            self._gained(gained)

    async def _begin_anew(self, connection: Connection) -> None:
        log.error("declared_dead", worker_id=str(self.worker_id))
        self._beat_at = float("-inf")
        self._learn({})
        self.worker_id = self._clock.mint()
        await ownership_store.register(connection, self.worker_id, _NAME)
