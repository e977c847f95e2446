"""Deletes an organisation: at once for everybody who asks for it, and its rows after that, in batches.

Its states:

    exists → deleted: its row is in `deleted_organisations`, and its rows are being deleted
           → emptied: its rows are deleted, and are looked for once more after a day → forgotten

One transaction moves the row of the organisation. From then on its keys, sessions and events are refused,
because all of them need that row. Everything after that can be repeated, so a process may die at any moment.
Each batch of rows commits together with the position that it reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from triggers.domain import OrgId
from triggers.errors import Conflict, NotFound
from triggers.postgres.database import Connection, Database, Row, statements
from triggers.postgres.time_bounds import ACCEPTS_ENDED

_SQL = statements(__name__)

LOOKED_FOR_AGAIN: Final = timedelta(days=1)
"""Time after a deletion when rows of the organisation are looked for again. By then, a process that could not
write has written its statistics, and attempts that were in flight are recorded. Until then, deleting the
organisation again is answered like the first time."""
SUBSCRIPTIONS_AT_ONCE: Final = 1_000


class OwnedTable(NamedTuple):
    """A table with rows of organisations. `key`: the columns and types of its primary key after `org_id`."""

    name: str
    key: tuple[tuple[str, str], ...]

    def delete_rows(self, position: Sequence[str] | None) -> str:
        """The statement that deletes the next rows after a position."""
        columns = [name for name, _ in self.key]
        key = ", ".join(columns)
        bounds = ", ".join(f"($3::text[])[{place}]::{kind}" for place, (_, kind) in enumerate(self.key, 1))
        return _SQL["delete_rows"].format(
            table=self.name,
            key=key,
            key_backwards=", ".join(f"{name} desc" for name in columns),
            key_as_texts=", ".join(f"{name}::text" for name in columns),
            after="" if position is None else f"and ({key}) > ({bounds})",
        )


_ID = (("id", "uuid"),)
_DELIVERY = (("subscription_id", "uuid"), ("event_id", "uuid"), ("generation", "integer"))
OWNED: Final = (
    OwnedTable("session_links", _ID),
    OwnedTable("sessions", _ID),
    OwnedTable("api_keys", _ID),
    OwnedTable("replays", _ID),
    OwnedTable("deliveries", _DELIVERY),
    OwnedTable("finished_leases", (("subscription_id", "uuid"), ("lease_id", "uuid"))),
    OwnedTable("settled_deliveries", _DELIVERY),
    OwnedTable("attempts", (("subscription_id", "uuid"), ("id", "uuid"))),
    OwnedTable("dedup", (("dedup_id", "text"),)),
    OwnedTable("events", _ID),
    OwnedTable(
        "statistics_minutes",
        (("subscription_id", "uuid"), ("began_at", "timestamptz"), ("process_id", "uuid")),
    ),
    OwnedTable("statistics_hours", (("subscription_id", "uuid"), ("began_at", "timestamptz"))),
    # The last ones, because lanes and inboxes see in them that they have ended.
    OwnedTable("subscriptions", _ID),
)
"""Every table that has a column `org_id`, in the order in which its rows are deleted."""


class DeletedOrganisation(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation that was deleted. `emptied_at`: when all its rows were deleted, None before that."""

    id: UUID
    name: str
    deleted_at: datetime
    emptied_at: datetime | None


class DeletedRows(NamedTuple):
    """One batch: the organisation, how many of its rows were deleted, and whether it is empty now."""

    organisation: DeletedOrganisation
    rows: int
    emptied: bool


# ---- at once -------------------------------------------------------------------------------------


async def delete(database: Database, org_id: OrgId, asking: OrgId | None) -> DeletedOrganisation:
    """Delete an organisation. Deleting it again changes nothing, and has the same answer for a day.

    `asking`: the organisation of the key that asks, None for a command beside the database. When this
    returns, nothing of the organisation is accepted or leased, and within a second no attempt begins.

    Raises:
        NotFound: no organisation has this id.
        Conflict: it is the organisation of the key, or the last one that has a key with the scope `admin`.
    """
    if org_id == asking:
        raise Conflict("A key cannot delete its own organisation. Use a key of another organisation.")
    deleted = await _move(database, org_id) or await _one(database, org_id)
    if deleted is None:
        raise NotFound("No organisation has this id.")
    await _end_subscriptions(database, org_id)
    return deleted


async def _move(database: Database, org_id: OrgId) -> DeletedOrganisation | None:
    """Move the row of an organisation to the deleted ones. None if it does not exist."""
    async with database.connection() as connection, connection.transaction():
        if await connection.fetchrow(_SQL["lock"], org_id) is None:
            return None
        await connection.execute(_SQL["raise_version"])
        operators = await connection.fetchrow(_SQL["operators_elsewhere"], org_id)
        if operators["here"] and not operators["elsewhere"]:
            raise Conflict(
                "This is the last organisation that has a key with the scope `admin`. Create one in another"
                " organisation first, in the database, with `triggers keys create` without an API key."
            )
        return _deleted(await connection.fetchrow(_SQL["move"], org_id, ACCEPTS_ENDED))


async def _end_subscriptions(database: Database, org_id: UUID) -> None:
    """Mark all subscriptions and inboxes of a deleted organisation as deleted, in batches."""
    marked = SUBSCRIPTIONS_AT_ONCE
    while marked == SUBSCRIPTIONS_AT_ONCE:
        marked = len(await database.fetch(_SQL["end_subscriptions"], org_id, SUBSCRIPTIONS_AT_ONCE))


async def _one(database: Database, org_id: OrgId) -> DeletedOrganisation | None:
    row = await database.row(_SQL["one"], org_id)
    return None if row is None else _deleted(row)


# ---- in batches ----------------------------------------------------------------------------------


async def finish_begun(database: Database) -> None:
    """Mark what a call of `delete` has not marked because its process died."""
    for row in await database.fetch(_SQL["begun"]):
        await _end_subscriptions(database, row["id"])


async def delete_rows(database: Database, limit: int) -> DeletedRows | None:
    """Delete at most `limit` rows of a deleted organisation. None if there is nothing to do now.

    A crash may undo the last batches, which are then repeated, so no fsync is needed.
    """
    async with database.connection() as connection, connection.transaction():
        await connection.execute("set local synchronous_commit = off")
        # A plan is made while a table may be nearly empty, and kept until it is large.
        await connection.execute("set local enable_seqscan = off")
        found = await connection.fetchrow(_SQL["next"])
        if found is None:
            return None
        organisation = _deleted(found)
        names = [table.name for table in OWNED]
        place, position = 0, found["position"]
        if found["emptying"] in names:  # else another version with other tables began it
            place = names.index(found["emptying"])
        else:
            position = None
        for table in OWNED[place:]:
            values = (organisation.id, limit) if position is None else (organisation.id, limit, position)
            batch = await connection.fetchrow(table.delete_rows(position), *values)
            if batch["last"] is not None:
                await connection.execute(_SQL["advance"], organisation.id, table.name, batch["last"])
                return DeletedRows(organisation, batch["gone"], emptied=False)
            position = None
        await _note_emptied(connection, organisation, found["now"])
        return DeletedRows(organisation, 0, emptied=True)


async def _note_emptied(connection: Connection, organisation: DeletedOrganisation, now: datetime) -> None:
    again_at = organisation.deleted_at + LOOKED_FOR_AGAIN
    if organisation.emptied_at is not None and now >= again_at:
        await connection.execute(_SQL["forget"], organisation.id)
    else:
        await connection.execute(_SQL["emptied"], organisation.id, again_at)


def _deleted(row: Row) -> DeletedOrganisation:
    return DeletedOrganisation(
        id=row["id"], name=row["name"], deleted_at=row["deleted_at"], emptied_at=row["emptied_at"]
    )
