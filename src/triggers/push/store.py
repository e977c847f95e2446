"""Statements for lanes: their due deliveries, and the settling of attempts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, assert_never
from uuid import UUID

import msgspec

from triggers.domain import AttemptOutcome, Format, LaneId
from triggers.postgres.database import (
    Column,
    Connection,
    Database,
    Row,
    UniqueViolation,
    columns,
    only_if,
    statements,
)
from triggers.postgres.read_position import Position
from triggers.push.retry import Progress

_SQL = statements(__name__)
_SETTLE = only_if(_SQL["settle"], repeated=False)
_SETTLE_REPEATED = only_if(_SQL["settle"], repeated=True)

DeliveryId = tuple[UUID, UUID, UUID, int]
"""Organisation, subscription, event and generation."""


class Group(NamedTuple):
    """A group of lanes that this worker owns. Every settlement is fenced by the token."""

    id: int
    token: UUID
    probation: bool
    suspects_until: datetime | None = None
    """Deliveries that were due by this time may have been under way when an owner of the group died."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A push subscription as its lane needs it, secrets and headers still sealed."""

    org_id: UUID
    id: UUID
    lane_group: int
    status: str
    status_at: datetime
    changed_at: datetime
    target_url: str
    format: Format
    signature: str
    secrets: bytes
    headers: bytes | None
    ordering: str
    max_concurrency: int | None
    rate_limit: float | None
    retry_delays: list[float] | None
    retry_deadline: float | None
    expires_at: datetime | None
    failing_since: datetime | None
    probe_at: datetime | None
    probe_delay: float | None
    notifies_inbox: UUID | None
    name: str | None = None
    key: str | None = None

    @property
    def asks_for_probe(self) -> bool:
        """Whether the last change asked for a probe at once: then the probe is not later than the change."""
        return self.probe_at is not None and self.probe_at <= self.changed_at


class Due(msgspec.Struct, gc=False):
    """A delivery that may be sent, with the event's content."""

    org_id: UUID
    subscription_id: UUID
    event_id: UUID
    generation: int
    attempts: int
    first_attempt_at: datetime | None
    due_at: datetime
    accepted_at: datetime
    payload_size: int
    lost: bool = False
    """Whether its last attempt was counted before it was sent and has no recorded result."""
    ordering_key: str | None = None
    type: str = ""
    payload: bytes = b""
    source: str | None = None
    subject: str | None = None
    occurred_at: datetime | None = None
    attributes: bytes | None = None

    @property
    def id(self) -> UUID:
        """The event's id, as body formats name it."""
        return self.event_id

    @property
    def key(self) -> tuple[UUID, int]:
        """Identifies the delivery within its lane."""
        return self.event_id, self.generation

    @property
    def position(self) -> Position:
        """Where it stands in its lane."""
        return self.due_at, self.event_id


class Settlement(msgspec.Struct, kw_only=True, gc=False):
    """The result of an attempt in absolute values, so it can be written twice without harm."""

    org_id: UUID
    subscription_id: UUID
    event_id: UUID
    generation: int
    lane_group: int
    read_attempts: int
    attempts: int
    outcome: AttemptOutcome
    due_at: datetime | None
    reason: str
    began_at: datetime
    target_url: str = ""
    """The URL of the request. It is not stored."""
    lag_seconds: float | None = None
    """Time from the acceptance of the event to this attempt, if it is the first one. It is not stored."""
    attempt_id: UUID | None = None
    """None if no request was made, or if the attempt is not recorded."""
    status_code: int | None = None
    response: str | None = None
    duration_ms: int = 0
    progress: Progress | None = None
    """Used to judge the attempt again if the database refuses to store the answer. None if no request was
    made. It is not stored."""

    @property
    def delivery(self) -> DeliveryId:
        """The delivery that it settles."""
        return self.org_id, self.subscription_id, self.event_id, self.generation


_COLUMNS = attrgetter(
    "org_id",
    "subscription_id",
    "event_id",
    "generation",
    "lane_group",
    "read_attempts",
    "attempts",
    "outcome",
    "due_at",
    "status_code",
    "response",
    "duration_ms",
    "attempt_id",
)


def _settled(settlement: Settlement) -> tuple[Any, ...]:
    """A row for the statement. It omits values that are not needed, because most attempts are successes."""
    reason: str | None = settlement.reason
    match settlement.outcome:
        case AttemptOutcome.DELIVERED:
            reason = None
        case AttemptOutcome.RETRY | AttemptOutcome.DEAD:
            pass
        case _:
            assert_never(settlement.outcome)
    unmade = settlement.attempt_id is None and settlement.progress is None
    began_at = None if unmade else settlement.began_at.timestamp()  # quicker to send than a time
    return (*_COLUMNS(settlement), reason, began_at)


class Begin(NamedTuple):
    """An attempt to count before it is sent. The delivery is due again if no result is stored by then."""

    group: Group
    due: Due
    due_again_at: datetime


def _begun(begin: Begin) -> tuple[Any, ...]:
    group, due, due_again_at = begin
    return (
        due.org_id,
        due.subscription_id,
        due.event_id,
        due.generation,
        due.attempts,
        group.id,
        group.token,
        due_again_at,
    )


class LaneHealth(NamedTuple):
    """The health of an endpoint, as the owner of its lane knows it."""

    org_id: UUID
    subscription_id: UUID
    last_success_at: datetime | None
    failing_since: datetime | None
    probe_at: datetime | None
    probe_delay: float | None


# ---- finding and reading -------------------------------------------------------------------------


async def now(connection: Connection) -> datetime:
    """The database's time."""
    moment: datetime = await connection.fetchval("select now()")
    return moment


async def due_lanes(connection: Connection, groups: Sequence[int], since: datetime) -> dict[LaneId, int]:
    """Lanes with rows that came due at `since` or after, and how many."""
    rows = await connection.fetch(_SQL["due_lanes"], groups, since)
    return {(row["org_id"], row["subscription_id"]): row["rows"] for row in rows}


async def lanes_with_work(connection: Connection, groups: Sequence[int]) -> list[LaneId]:
    """Every active lane of these groups that has something due."""
    rows = await connection.fetch(_SQL["lanes_with_work"], groups)
    return [(row["org_id"], row["subscription_id"]) for row in rows]


async def endpoints(connection: Connection, lanes: Sequence[LaneId]) -> list[Endpoint]:
    """The subscriptions of these lanes."""
    rows = await connection.fetch(_SQL["endpoints"], [lane[0] for lane in lanes], [lane[1] for lane in lanes])
    return [Endpoint(**row) for row in rows]


async def read(
    connection: Connection,
    lanes: Sequence[LaneId],
    starts: Sequence[Position],
    limits: Sequence[int],
) -> list[list[Row]]:
    """Due rows of many lanes, for each lane in (due_at, event_id) order, and from its `start` on.

    A row has the place of its lane in `lanes`, then the fields of Due from `event_id` to `lost`, then `now`.
    """
    rows = await connection.fetch(
        _SQL["read"],
        [lane[0] for lane in lanes],
        [lane[1] for lane in lanes],
        [start[0] for start in starts],
        [start[1] for start in starts],
        limits,
    )
    return _by_place(rows, len(lanes))


async def read_heads(
    connection: Connection, lanes: Sequence[LaneId], after: Sequence[str | None], limits: Sequence[int]
) -> list[list[Row]]:
    """The first row of each key of many ordered lanes, due or not. Rows have `ordering_key` and `due` too."""
    rows = await connection.fetch(
        _SQL["read_heads"], [lane[0] for lane in lanes], [lane[1] for lane in lanes], after, limits
    )
    return _by_place(rows, len(lanes))


def _by_place(rows: Sequence[Row], places: int) -> list[list[Row]]:
    found: list[list[Row]] = [[] for _ in range(places)]
    for row in rows:
        found[row[0] - 1].append(row)
    return found


async def read_contents(connection: Connection, dues: Sequence[Due]) -> None:
    """Set the content of each delivery's event. If the event is no longer stored, `type` stays empty."""
    if not dues:
        return
    events = [due.event_id for due in dues]
    orgs = [due.org_id for due in dues]
    rows = await connection.fetch(_SQL["contents"], Column(orgs), Column(events), min(events), max(events))
    for place, *content in rows:
        due = dues[place - 1]
        due.type, due.payload, due.source, due.subject, due.occurred_at, due.attributes = content


# ---- settling ------------------------------------------------------------------------------------


async def settle(
    connection: Connection, worker_id: UUID, groups: Sequence[Group], batch: Sequence[Settlement]
) -> set[DeliveryId]:
    """Record attempts, and change the states of deliveries if the token of their group is still valid.

    Returns the failed deliveries whose state this call changed. Those settled before are not among them.
    """
    values = (
        [group.id for group in groups],
        [group.token for group in groups],
        *columns(map(_settled, batch)),
        worker_id,
    )
    rows = None
    if not connection.is_in_transaction():  # which a failure would end
        with suppress(UniqueViolation):
            rows = await connection.fetch(_SETTLE, *values)
    if rows is None:
        rows = await connection.fetch(_SETTLE_REPEATED, *values)
    return {tuple(row) for row in rows}


async def begin_attempts(connection: Connection, batch: Sequence[Begin]) -> set[int]:
    """Count attempts before they are sent; return the places in the batch of those that were counted.

    The worker must not send the others: they were settled or changed meanwhile, or their group was lost.
    """
    rows = await connection.fetch(_SQL["begin_attempts"], *columns(map(_begun, batch)))
    return {row["place"] - 1 for row in rows}


async def disable(
    connection: Connection, org_id: UUID, subscription_id: UUID, target_url: str, reason: str
) -> bool:
    """Disable a subscription. Its deliveries are cancelled later. False if it is neither active nor paused,
    or has another URL."""
    disabled = await connection.fetchval(_SQL["disable"], org_id, subscription_id, reason, target_url)
    return disabled is not None


async def note_health(database: Database, found: Sequence[LaneHealth]) -> None:
    """Store the health of endpoints, for subscribers to see and for the next owner of the lanes."""
    columns = [list(column) for column in zip(*found, strict=True)]
    async with database.connection() as connection, connection.transaction():
        await connection.execute("set local synchronous_commit = off")
        await connection.execute(_SQL["note_health"], *columns)


async def backlog(
    connection: Connection, groups: Sequence[int], most: int
) -> tuple[int, datetime | None, datetime]:
    """Due deliveries of these groups (at most `most` of each are counted), the oldest, and now."""
    row = await connection.fetchrow(_SQL["backlog"], groups, most)
    return row["due"], row["oldest"], row["now"]
