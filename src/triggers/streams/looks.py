"""Reads the new frames for the streams of an organisation: each look returns the frames since the one before.

How long after the time in its id a row may become visible follows from the limits of whoever writes it:

    event      waits to be stored for MAX_WAIT_SECONDS; its statement, of ACCEPT_SECONDS, is repeated once
    attempt    takes ATTEMPT_SECONDS, and is written within SETTLE_SECONDS
    dead       bears the start of its transaction, which has up to three statements of at most REQUEST_SECONDS
    message    like a dead one, and most are accepted or released in one statement
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, assert_never
from uuid import UUID

import msgspec

from triggers.domain import OrgId, SubscriptionStatus, first_id_at
from triggers.events import store as event_store
from triggers.events.group_commit import MAX_WAIT_SECONDS
from triggers.outbound.addresses import OutboundPolicy
from triggers.postgres.database import REQUEST_SECONDS, Database
from triggers.postgres.time_bounds import ACCEPT_SECONDS, MARGIN_SECONDS, SETTLE_SECONDS
from triggers.streams import store
from triggers.streams.frames import AttemptEnded, DeliveryDied, Frame, MessagesAvailable, StreamKind, gap
from triggers.streams.window import MAX_SEEN, Window

ATTEMPT_SECONDS: Final = OutboundPolicy().total_timeout_seconds
EVENT_LAG_SECONDS: Final = MAX_WAIT_SECONDS + 2 * ACCEPT_SECONDS + MARGIN_SECONDS
ATTEMPT_LAG_SECONDS: Final = ATTEMPT_SECONDS + SETTLE_SECONDS + MARGIN_SECONDS
DEAD_LAG_SECONDS: Final = 3 * REQUEST_SECONDS + MARGIN_SECONDS
MESSAGE_LAG_SECONDS: Final = REQUEST_SECONDS + MARGIN_SECONDS
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Look(ABC):
    """Reads one part of the log for all streams that show it."""

    over = False
    """Whether nothing will ever come any more."""

    def __init__(self, database: Database, org_id: OrgId, now: datetime) -> None:
        """`now` is the database's time as this process knows it."""
        self._database = database
        self._org_id = org_id
        self._begun_at = now

    @abstractmethod
    async def new(self) -> list[Frame]:
        """Return the frames since the look before. The first look returns everything of its window."""

    async def _typed(self, rows: list[Any]) -> list[Any]:
        """These rows with the types of their events, as far as the events still exist."""
        ids = list({row.event_id for row in rows})
        types = await event_store.types(self._database, self._org_id, ids)
        return [msgspec.structs.replace(row, type=types.get(row.event_id)) for row in rows]


class AcceptedLook(Look):
    """The events that were accepted."""

    def __init__(self, database: Database, org_id: OrgId, now: datetime) -> None:
        super().__init__(database, org_id, now)
        self._window: Window[UUID, UUID] = Window(EVENT_LAG_SECONDS, first_id_at, now)

    async def new(self) -> list[Frame]:
        now, rows = await store.accepted(self._database, self._org_id, self._window.start)
        new = self._window.new({row: row for row in rows}, now)
        return _after_gap(len(new), [Frame(StreamKind.ACCEPTED, rows[each], each) for each in new])


class AttemptedLook(Look):
    """The attempts that ended."""

    def __init__(self, database: Database, org_id: OrgId, now: datetime) -> None:
        super().__init__(database, org_id, now)
        self._window: Window[UUID, UUID] = Window(ATTEMPT_LAG_SECONDS, first_id_at, now)

    async def new(self) -> list[Frame]:
        now, rows = await store.attempts(self._database, self._org_id, self._window.start)
        new = self._window.new({row: row for row in rows}, now)
        typed: list[AttemptEnded] = await self._typed([rows[each] for each in new])
        frames = [Frame(StreamKind.ATTEMPT, row, each) for each, row in zip(new, typed, strict=True)]
        return _after_gap(len(new), frames)


class DeadLook(Look):
    """The deliveries that became dead letters, and the messages that were quarantined."""

    def __init__(self, database: Database, org_id: OrgId, now: datetime) -> None:
        super().__init__(database, org_id, now)
        self._window: Window[DeliveryDied, datetime] = Window(DEAD_LAG_SECONDS, _moment, now)

    async def new(self) -> list[Frame]:
        now, rows = await store.dead(self._database, self._org_id, self._window.start)
        typed: list[DeliveryDied] = await self._typed(self._window.new(rows, now))
        return _after_gap(len(typed), [Frame(StreamKind.DEAD, row, row.event_id) for row in typed])


class AvailableLook(Look):
    """The messages of one inbox that became available, as one frame with their number."""

    def __init__(self, database: Database, org_id: OrgId, now: datetime, inbox_id: UUID) -> None:
        super().__init__(database, org_id, now)
        self._inbox_id = inbox_id
        self._window: Window[tuple[UUID, datetime], datetime] | None = Window(
            MESSAGE_LAG_SECONDS, _moment, now
        )

    async def new(self) -> list[Frame]:
        start = BEGINNING if self._window is None else self._window.start
        found = await store.available(self._database, self._org_id, self._inbox_id, start)
        if found is None or found.status == SubscriptionStatus.DELETING:
            self.over = True
            return []
        if found.status != SubscriptionStatus.ACTIVE:
            self._window = None  # after the pause, everything that it has collected becomes available
            return []
        if self._window is None:
            self._window = Window(MESSAGE_LAG_SECONDS, _moment, found.now)
        new = self._window.new({row: row[1] for row in found.rows}, found.now)
        return [available(self._inbox_id, len(new))] if new else []

    async def all(self) -> list[Frame]:
        """Everything that is available now, for a stream that begins."""
        found = await store.available(self._database, self._org_id, self._inbox_id, BEGINNING)
        return [available(self._inbox_id, len(found.rows))] if found is not None and found.rows else []


def available(inbox_id: UUID, count: int) -> Frame:
    """The frame that says that so many messages have become available."""
    return Frame(None, MessagesAvailable(inbox_id, count))


def look_of(kind: StreamKind) -> Callable[[Database, OrgId, datetime], Look]:
    """Return the look that reads the frames of a kind."""
    match kind:
        case StreamKind.ACCEPTED:
            return AcceptedLook
        case StreamKind.ATTEMPT:
            return AttemptedLook
        case StreamKind.DEAD:
            return DeadLook
        case _:
            assert_never(kind)


def _after_gap(number: int, frames: list[Frame]) -> list[Frame]:
    """The frames, and before them one that says that there were too many to read."""
    return [gap("too_many"), *frames] if number >= MAX_SEEN else frames


def _moment(moment: datetime) -> datetime:
    return moment
