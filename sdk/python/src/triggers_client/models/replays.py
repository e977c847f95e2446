"""Replays and backfills."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from triggers_client.decoding import Model


@dataclass(frozen=True, kw_only=True)
class Replay(Model):
    """A replay, or the backfill of a subscription that starts in the past."""

    id: str | None
    kind: str
    action: str
    subscription_id: str
    subscription_kind: str
    subscription_name: str
    status: str
    reason: str | None
    only: str
    event_types: list[str] | None
    since: datetime
    until: datetime
    rate: int
    planned: int | None
    planned_exact: bool
    planned_seconds: float | None
    made: int
    progress: float
    created_at: datetime | None
    updated_at: datetime | None
    finished_at: datetime | None
