"""Acknowledges, releases and rejects messages of a lease, which ends it; and extends a lease.

A request that settles nothing may be a repetition of one whose answer was lost, or it may have come after the
end of the lease. `reasons` and `is_finished` tell the two apart.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from triggers.domain import NotSettledReason
from triggers.inboxes.store import Inbox, Message, leased_message
from triggers.postgres.database import Database, statements

_SQL = statements(__name__)
FINISHED_LEASES_KEPT = timedelta(hours=24)
"""Time for which the service remembers that all messages of a lease were acknowledged."""


class LeasedMessages(NamedTuple):
    """The messages of a lease to settle, all of them if `ids` is None, and the consumer's note, as stored."""

    lease_id: UUID
    ids: Sequence[UUID] | None = None
    note: str | None = None


async def acknowledge_lease(database: Database, inbox: Inbox, held: LeasedMessages) -> list[Message]:
    """Settle messages of a lease. Changes nothing if the lease has ended."""
    rows = await database.fetch(_SQL["ack"], inbox.org_id, inbox.id, *held)
    if any(row["left_over"] for row in rows):
        await _finish(database, inbox, {held.lease_id})
    return [Message(row["event_id"], "acked", row["lease_count"]) for row in rows]


async def release(
    database: Database, inbox: Inbox, held: LeasedMessages, delay: float, *, counted: bool = True
) -> list[Message]:
    """Release messages of a lease that has not ended. They are available again after `delay` seconds.

    If the lease is not `counted`, it is taken off their number of leases.
    """
    rows = await database.fetch(
        _SQL["release"], inbox.org_id, inbox.id, *held[:2], timedelta(seconds=delay), held.note, counted
    )
    return [Message(row["event_id"], "available", row["lease_count"]) for row in rows]


async def reject(database: Database, inbox: Inbox, held: LeasedMessages, reason: str) -> list[Message]:
    """Quarantine messages of a lease that has not ended, for a reason that is shown with them."""
    rows = await database.fetch(
        _SQL["reject"], inbox.org_id, inbox.id, held.lease_id, held.ids, reason, held.note
    )
    return [Message(row["event_id"], "quarantined", row["lease_count"]) for row in rows]


async def extend(database: Database, inbox: Inbox, lease_id: UUID, seconds: float) -> list[Message]:
    """Let a lease that has not ended end `seconds` from now."""
    rows = await database.fetch(_SQL["extend"], inbox.org_id, inbox.id, lease_id, timedelta(seconds=seconds))
    return [leased_message(row) for row in rows]


async def acknowledge(database: Database, inbox: Inbox, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Settle messages by their events' ids, leased or not.

    Each id's outcome is `acknowledged`, `already_acknowledged` or `failed`.
    """
    outcomes = dict.fromkeys(ids, "failed")
    if not ids:
        return outcomes
    unfinished = set()
    for row in await database.fetch(_SQL["acknowledge"], inbox.org_id, inbox.id, list(outcomes)):
        outcomes[row["event_id"]] = "acknowledged"
        unfinished.add(row["unfinished_lease"])
    if leases := unfinished - {None}:
        await _finish(database, inbox, leases)
    # A second statement: the first, had it waited for a concurrent acknowledgement, could not see it.
    rest = [event_id for event_id, outcome in outcomes.items() if outcome == "failed"]
    if rest:
        rows = await database.fetch(
            _SQL["acknowledged_before"], inbox.org_id, inbox.id, rest, min(rest), max(rest)
        )
        for row in rows:
            outcomes[row["event_id"]] = "already_acknowledged"
    return outcomes


async def reasons(
    database: Database, inbox: Inbox, lease_id: UUID, ids: Sequence[UUID], *, alive: bool
) -> dict[UUID, NotSettledReason]:
    """Why a request for these messages of a lease has just settled none of them.

    `alive` says that the lease is known to be alive, because the request settled other messages of it.
    """
    if not ids:
        return {}
    rows = await database.fetch(_SQL["acknowledged_last"], inbox.org_id, inbox.id, ids, min(ids), max(ids))
    acknowledged = {row["event_id"] for row in rows}
    if not alive and len(acknowledged) < len(set(ids)):
        alive = await _holds(database, "is_alive", inbox, lease_id)
    other = NotSettledReason.NOT_IN_LEASE if alive else NotSettledReason.LEASE_OVER
    return {
        event_id: NotSettledReason.ALREADY_ACKNOWLEDGED if event_id in acknowledged else other
        for event_id in ids
    }


async def is_finished(database: Database, inbox: Inbox, lease_id: UUID) -> bool:
    """Whether the last messages of a lease were acknowledged while it was alive, in the last 24 hours."""
    return await _holds(database, "is_finished", inbox, lease_id)


async def sweep_finished(database: Database, limit: int) -> int:
    """Forget leases that were finished 24 hours ago, at most `limit`; return how many."""
    async with database.connection() as connection:
        tag: str = await connection.execute(_SQL["sweep_finished"], FINISHED_LEASES_KEPT, limit)
        return int(tag.rpartition(" ")[2])


async def _finish(database: Database, inbox: Inbox, leases: Collection[UUID]) -> None:
    """Record the leases that are finished only because other requests settled the rest at the same time."""
    await database.fetch(_SQL["finish"], inbox.org_id, inbox.id, list(leases))


async def _holds(database: Database, name: str, inbox: Inbox, lease_id: UUID) -> bool:
    row = await database.row(_SQL[name], inbox.org_id, inbox.id, lease_id)
    return bool(row and row[0])
