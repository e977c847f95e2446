"""Which subscriptions judge payloads, and which of their filters failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from triggers.postgres.database import Database, statements

_SQL = statements(__name__)


class StoredRule(NamedTuple):
    """What a subscription asks of payloads, and of which types of events."""

    subscription_id: UUID
    type_names: list[str]
    type_prefixes: list[str]
    all_types: bool
    filter: str | None
    ordering_pointer: str | None


class FilterFailure(NamedTuple):
    """That a filter, known by its text, had no honest answer."""

    org_id: UUID
    subscription_id: UUID
    filter: str
    reason: str


async def rules(database: Database, org_id: UUID) -> tuple[int, list[StoredRule]] | None:
    """The rules of an organisation and the version they are of; None if it does not exist."""
    rows = await database.fetch(_SQL["rules"], org_id)
    if not rows:
        return None
    found = [StoredRule(*tuple(row)[1:]) for row in rows if row["id"] is not None]
    return rows[0]["judging_version"], found


async def record(database: Database, failures: Sequence[FilterFailure], every: timedelta) -> None:
    """Note failures at their subscriptions, each subscription once in `every`."""
    columns = [list(column) for column in zip(*failures, strict=True)]
    await database.fetch(_SQL["record"], *columns, every)
