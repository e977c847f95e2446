"""Cancels the deliveries of subscriptions and inboxes that were deleted or disabled, in small batches."""

from __future__ import annotations

from triggers.postgres.database import Database, Row, statements
from triggers.postgres.time_bounds import ACCEPTS_ENDED

_SQL = statements(__name__)


async def follow(database: Database, limit: int) -> int:
    """Cancel what is owed to deleted and disabled subscriptions, `limit` rows of each; return how many.

    One is done with when nothing is owed to it and no accept that began before the flag can still commit.
    """
    cancelled = 0
    for row in await database.fetch(_SQL["unfinished"], ACCEPTS_ENDED):
        result = await database.row(_SQL["cancel_some"], row["org_id"], row["id"], limit, _reason(row))
        assert result is not None
        cancelled += result[0]
        if result[0] == 0 and row["quiet"]:
            await database.fetch(_SQL["emptied"], row["org_id"], row["id"], row["status_at"])
    return cancelled


def _reason(row: Row) -> str:
    if row["status"] == "deleting":
        return "subscription deleted"
    return f"subscription disabled: {row['status_reason']}"
