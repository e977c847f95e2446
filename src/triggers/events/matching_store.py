"""Reads the payload rules of subscriptions, and records failures of their filters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from triggers.postgres.database import Database, statements

_SQL = statements(__name__)


class StoredRule(NamedTuple):
    """The filter and the ordering pointer of a subscription, and the event types that they apply to."""

    subscription_id: UUID
    type_names: list[str]
    type_prefixes: list[str]
    all_types: bool
    filter: str | None
    ordering_pointer: str | None


class FilterFailure(NamedTuple):
    """A failure of the filter with this text."""

    org_id: UUID
    subscription_id: UUID
    filter: str
    reason: str


async def rules(database: Database, org_id: UUID) -> tuple[int, list[StoredRule]] | None:
    """The version of an organisation's rules, and the rules; None if the organisation does not exist."""
    rows = await database.fetch(_SQL["rules"], org_id)
    if not rows:
        return None
    found = [StoredRule(*tuple(row)[1:]) for row in rows if row["id"] is not None]
    return rows[0]["judging_version"], found


async def record(database: Database, failures: Sequence[FilterFailure], every: timedelta) -> None:
    """Store failures in their subscriptions, for each subscription at most once per `every`."""
    columns = [list(column) for column in zip(*failures, strict=True)]
    await database.fetch(_SQL["record"], *columns, every)
