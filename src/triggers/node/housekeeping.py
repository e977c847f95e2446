"""Background duties of a node that serves the API: each does a bounded piece of work, again and again.

Every node runs them all; each statement is safe to run twice at once.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog

from triggers import observability
from triggers.background import Duty
from triggers.deliveries import ending
from triggers.errors import DatabaseUnavailable
from triggers.events import store as event_store
from triggers.inboxes import changes as inbox_changes
from triggers.inboxes import settlement_store
from triggers.inboxes import store as inbox_store
from triggers.keys import deletion
from triggers.node.health import Health
from triggers.postgres import partitions
from triggers.postgres.database import Database
from triggers.sessions import store as session_store
from triggers.subscriptions import changes as subscription_changes

log = structlog.get_logger()

CHUNK = 1_000
EXPIRY_CHUNK = 5_000
SWEEP_CHUNK = 100
"""Deleted subscriptions for which one statement looks into every partition."""
INBOX_CHUNK = 50
"""Inboxes that are deleted one after the other, each in a transaction."""

_FIRST_INBOX = (UUID(int=0), UUID(int=0))


class Housekeeping:
    """The duties that keep tables, disk and the ends of things in order."""

    def __init__(
        self,
        database: Database,
        health: Health,
        *,
        data_dir: Path | None,
        min_free_mib: int,
        inbox_retention: float,
    ) -> None:
        self._database = database
        self._health = health
        self._data_dir = data_dir
        self._min_free_bytes = min_free_mib * 1024 * 1024
        self._inbox_retention = timedelta(seconds=inbox_retention)
        self._expire_from = _FIRST_INBOX
        self._expiry_chunk = EXPIRY_CHUNK
        self._deletion_chunk = CHUNK

    def duties(self) -> list[Duty]:
        """The duties, with their intervals."""
        return [
            Duty("partitions", 3600, self._make_partitions),
            Duty("dedup sweep", 15, self._sweep_dedup),
            Duty("finished leases sweep", 15, self._sweep_finished_leases),
            Duty("ended sessions sweep", 60, self._sweep_sessions),
            Duty("message expiry", 30, self._expire_messages),
            Duty("subscription expiry", 2, self._disable_subscriptions),
            Duty("inbox expiry", 2, self._delete_inboxes),
            Duty("ended subscriptions", 2, self._follow_ends),
            Duty("deleted subscriptions sweep", 30, self._sweep_subscriptions),
            Duty("ends of organisations", 2, self._end_organisations),
            Duty("rows of deleted organisations", 2, self._empty_organisations),
            Duty("disk space", 2, self.watch_disk),
        ]

    async def _make_partitions(self) -> bool:
        async with self._database.connection() as connection:
            for name in await partitions.ensure(connection):
                log.info("partition_made", name=name)
        return False

    async def _sweep_dedup(self) -> bool:
        return await event_store.sweep_dedup(self._database, CHUNK) == CHUNK

    async def _sweep_finished_leases(self) -> bool:
        return await settlement_store.sweep_finished(self._database, CHUNK) == CHUNK

    async def _sweep_sessions(self) -> bool:
        return await session_store.sweep(self._database, CHUNK) == CHUNK

    async def _expire_messages(self) -> bool:
        try:
            expired, following = await inbox_store.expire_messages(
                self._database, self._expire_from, self._expiry_chunk, self._inbox_retention
            )
        except DatabaseUnavailable:
            # If one statement could not delete this many rows, it could not delete them the next time either.
            self._expiry_chunk = max(1, self._expiry_chunk // 2)
            raise
        observability.expired_total.inc(expired)
        self._expiry_chunk = min(EXPIRY_CHUNK, self._expiry_chunk * 2)
        self._expire_from = following or _FIRST_INBOX
        return following is not None

    async def _disable_subscriptions(self) -> bool:
        expired = await subscription_changes.disable_expired(self._database, CHUNK)
        for org_id, subscription_id in expired:
            log.info("subscription_expired", org_id=str(org_id), subscription_id=str(subscription_id))
        return len(expired) == CHUNK

    async def _delete_inboxes(self) -> bool:
        expired = await inbox_changes.delete_expired(self._database, INBOX_CHUNK)
        for org_id, inbox_id in expired:
            log.info("inbox_expired", org_id=str(org_id), inbox_id=str(inbox_id))
        return len(expired) == INBOX_CHUNK

    async def _follow_ends(self) -> bool:
        return await ending.follow(self._database, CHUNK) > 0

    async def _sweep_subscriptions(self) -> bool:
        return await subscription_changes.sweep_deleted(self._database, SWEEP_CHUNK) == SWEEP_CHUNK

    async def _end_organisations(self) -> None:
        await deletion.finish_begun(self._database)

    async def _empty_organisations(self) -> bool:
        began = time.monotonic()
        try:
            found = await deletion.delete_rows(self._database, self._deletion_chunk)
        except DatabaseUnavailable:
            self._deletion_chunk = max(1, self._deletion_chunk // 2)
            raise
        self._deletion_chunk = min(CHUNK, self._deletion_chunk * 2)
        if found is None:
            return False
        if found.emptied and found.organisation.emptied_at is None:
            log.info("organisation_emptied", org_id=str(found.organisation.id), name=found.organisation.name)
        # Requests and deliveries of others have at least half of the database's time.
        await asyncio.sleep(time.monotonic() - began)
        return True

    async def watch_disk(self) -> bool:
        """Note whether the disk has less free space than it must have."""
        if self._data_dir is not None:
            free = shutil.disk_usage(self._data_dir).free
            full = free < self._min_free_bytes
            if full != self._health.disk_full:
                log.warning("disk_full" if full else "disk_free_again", free_mib=free // (1024 * 1024))
            self._health.disk_full = full
        return False
