"""Statements for events: the two that store events, and those that read them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum, auto
from operator import attrgetter
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

from triggers.domain import NewEvent, OrgId
from triggers.events.handover import Handover
from triggers.fairness.pace import Steps, do_first
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import (
    Connection,
    Database,
    Row,
    UniqueViolation,
    columns,
    statements,
)

_SQL = statements(__name__)


FLUSH_DELIVERIES = 1_000
"""Maximum number of deliveries that one transaction creates, unless its first event alone needs more.
Creating so many takes about 40 ms, and everybody who sends events waits for it."""

DELIVERIES_A_REQUEST = 100
"""Deliveries that one request of the rate limit pays for. Those of an event beyond the first so many are
charged as further requests."""


_COLUMNS = attrgetter(
    "org_id",
    "id",
    "type",
    "payload",
    "dedup_id",
    "source",
    "subject",
    "ordering_key",
    "occurred_at",
    "attributes",
)
_DEDUP_KEY = attrgetter("org_id", "id", "dedup_id")


class Obstacle(Enum):
    """Why a batch cannot be stored by `accept_all`, the cheaper of the two statements."""

    STORED = auto()
    """An event of the batch is stored already. Usually it was sent again with the same dedup_id."""
    TOO_MUCH = auto()
    """The batch may need too many deliveries for one transaction, or its rules have changed since."""


class Receipt(NamedTuple):
    """The events that a transaction of `accept` did not store, and the push deliveries that it stored.

    `obstacle`: why `accept_all` did not store the batch; None if it did, or was not tried.
    """

    missing: list[UUID]
    handover: Handover
    obstacle: Obstacle | None
    charges: Mapping[UUID, int]
    """By organisation: the additional requests for events with more than DELIVERIES_A_REQUEST deliveries."""


class Resolution(NamedTuple):
    """Why an event of a batch is not stored.

    `winner` and `fingerprint` belong to the stored event with the same dedup_id; they are None if there is
    none. `stored`: whether an earlier try stored the event under its own id. `version` is the current version
    of the organisation's rules, None if the organisation does not exist.
    """

    winner: UUID | None
    fingerprint: bytes | None
    stored: bool
    version: int | None


class Taken(NamedTuple):
    """The stored event with a dedup_id.

    `stored`: whether an earlier try stored the requested event itself, under its own id.
    """

    winner: UUID
    fingerprint: bytes
    stored: bool


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event without its payload. In lists, events have no attributes either."""

    id: UUID
    type: str
    dedup_id: str | None
    source: str | None
    subject: str | None
    ordering_key: str | None
    occurred_at: datetime | None
    payload_size: int
    attributes: bytes | None = None


class StoredPayload(NamedTuple):
    """A payload with exactly the bytes that were sent."""

    id: UUID
    type: str
    payload: bytes


class Batch(NamedTuple):
    """Events to store.

    `versions`: for each event the version of the rules that judged it; all 0 if omitted. `findings`: a key
    is an event's id followed by a subscription's id; a value is False if the subscription does not want the
    event, else the ordering key.
    """

    events: Sequence[NewEvent]
    versions: Sequence[int] = ()
    findings: Mapping[str, str | Literal[False]] = {}


async def accept(
    connection: Connection, clock: DatabaseClock, batch: Batch, window: timedelta, *, all_first: bool = True
) -> Receipt:
    """Store a batch with its deliveries in one transaction; return what was not stored.

    If the batch needs more than FLUSH_DELIVERIES deliveries, only a part is stored: the first events of each
    organisation, with about the same number of deliveries for each. The very first event is always stored. No
    two events may share an organisation and a dedup_id.

    `window`: how long a dedup_id is remembered. `all_first`: whether to try `accept_all` first. In a
    transaction that has already begun, all ids must be new.
    """
    events, versions, findings = batch
    *fields, other_attributes = columns(map(_COLUMNS, events))
    values = (
        *fields,
        versions if versions and any(versions) else (),
        window,
        FLUSH_DELIVERIES,
        msgspec.json.encode(findings).decode() if findings else "{}",
        other_attributes,
        DELIVERIES_A_REQUEST,
    )
    asked_at = time.monotonic()
    row: Row | None = None
    missing: list[UUID] = []
    obstacle = None
    if all_first:
        try:
            row = await connection.fetchrow(_SQL["accept_all"], *values)
        except UniqueViolation:
            obstacle = Obstacle.STORED
        else:
            obstacle = None if row["fits"] else Obstacle.TOO_MUCH
    if obstacle or row is None:
        asked_at = time.monotonic()
        row = await connection.fetchrow(_SQL["accept_some"], *values)
        missing = row["missing"]
    clock.learn(row["now"], asked_at)
    owed = await do_first(_by_event(row["owed"]))
    charges = _charges(events, row["broad"]) if row["broad"] else {}
    return Receipt(missing, Handover.of(asked_at, row["now"], events, owed), obstacle, charges)


def _charges(batch: Sequence[NewEvent], broad: Sequence[bytes]) -> Counter[UUID]:
    """The requests to charge, by organisation. Each item of `broad` is the id of an event and the number of
    its deliveries."""
    orgs = {event.id.bytes: event.org_id for event in batch}
    charges: Counter[UUID] = Counter()
    for each in broad:
        charges[orgs[each[:16]]] += (int.from_bytes(each[16:]) - 1) // DELIVERIES_A_REQUEST
    return charges


def _by_event(pairs: Sequence[bytes]) -> Steps[dict[bytes, list[bytes]]]:
    """The ids of subscriptions by event id. Each pair is an event's id followed by a subscription's id."""
    owed: dict[bytes, list[bytes]] = {}
    for number, pair in enumerate(pairs, 1):
        owed.setdefault(pair[:16], []).append(pair[16:])
        if not number % 1_000:
            yield
    return owed


async def taken(connection: Connection, events: Sequence[NewEvent]) -> dict[UUID, Taken]:
    """For each of these events whose dedup_id is taken, the event that has it."""
    rows = await connection.fetch(_SQL["taken"], *columns(map(_DEDUP_KEY, events)))
    return {row["id"]: Taken(row["winner"], row["fingerprint"], row["stored"]) for row in rows}


async def resolve(connection: Connection, events: Sequence[NewEvent]) -> dict[UUID, Resolution]:
    """Why `accept` did not store these events."""
    if not events:
        return {}
    rows = await connection.fetch(_SQL["resolve"], *columns(map(_DEDUP_KEY, events)))
    return {
        row["id"]: Resolution(row["winner"], row["fingerprint"], row["stored"], row["judging_version"])
        for row in rows
    }


async def learn_time(database: Database, clock: DatabaseClock) -> None:
    """Read the database's time, so that the first id can use it."""
    async with database.connection() as connection:
        asked_at = time.monotonic()  # when connected: connecting may take long
        clock.learn(await connection.fetchval(_SQL["now"]), asked_at)


class EventRange(NamedTuple):
    """Events with `lowest` <= id < `below`, and the end at which a list of them begins."""

    lowest: UUID
    below: UUID
    newest_first: bool


async def one(database: Database, org_id: OrgId, event_id: UUID) -> StoredEvent | None:
    """One event of an organisation."""
    row = await database.row(_SQL["one"], org_id, event_id)
    return None if row is None else _stored_event(row)


async def payload(database: Database, org_id: OrgId, event_id: UUID) -> bytes | None:
    """The bytes of one event's payload."""
    row = await database.row(_SQL["payload"], org_id, event_id)
    return None if row is None else row["payload"]


async def payloads(database: Database, org_id: OrgId, ids: Sequence[UUID]) -> dict[UUID, StoredPayload]:
    """The payloads of these events, by id. The caller limits their total size."""
    if not ids:
        return {}
    rows = await database.fetch(_SQL["payloads"], org_id, ids, min(ids), max(ids))
    return {row["id"]: StoredPayload(row["id"], row["type"], row["payload"]) for row in rows}


async def attributes(database: Database, org_id: OrgId, ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """The attributes of these events, by id. Events without attributes are left out."""
    if not ids:
        return {}
    rows = await database.fetch(_SQL["attributes"], org_id, ids, min(ids), max(ids))
    return {row["id"]: row["attributes"] for row in rows}


async def payload_sizes(database: Database, org_id: OrgId, ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many bytes the payloads of these events have, by id."""
    if not ids:
        return {}
    rows = await database.fetch(_SQL["payload_sizes"], org_id, ids, min(ids), max(ids))
    return {row["id"]: row["size"] for row in rows}


async def types(database: Database, org_id: OrgId, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The types of these events, by id."""
    if not ids:
        return {}
    rows = await database.fetch(_SQL["types"], org_id, ids, min(ids), max(ids))
    return {row["id"]: row["type"] for row in rows}


async def sweep_dedup(database: Database, limit: int) -> int:
    """Delete dedup rows that have run out, at most `limit`; return how many."""
    async with database.connection() as connection:
        tag: str = await connection.execute(_SQL["sweep_dedup"], limit)
        return int(tag.rpartition(" ")[2])


def _stored_event(row: Row) -> StoredEvent:
    return StoredEvent(**row)


async def listeners(connection: Connection, org_ids: Sequence[UUID], event_type: str) -> set[UUID]:
    """The organisations of `org_ids` that have a subscription that names this type of service event."""
    steps = event_type.split(".")
    prefixes = [".".join(steps[:count]) + "." for count in range(1, len(steps))]
    rows = await connection.fetch(_SQL["listeners"], org_ids, [event_type], prefixes)
    return {row["org_id"] for row in rows}


class DeliveryState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one event for one subscription."""

    subscription_id: UUID
    kind: str
    key: str | None
    generation: int
    status: str
    reason: str | None
    lease_count: int
    attempts: int
    due_at: datetime | None
    settled_at: datetime | None
    note: str | None


async def deliveries_of_event(database: Database, org_id: OrgId, event_id: UUID) -> list[DeliveryState]:
    """Every delivery of an event, settled or not."""
    rows = await database.fetch(_SQL["deliveries_of_event"], org_id, event_id)
    return [DeliveryState(**row) for row in rows]


class Candidate(NamedTuple):
    """A subscription that may match an event, with its event types and its filter."""

    id: UUID
    kind: str
    key: str | None
    status: str
    event_types: list[str] | None
    filter: str | None
    created_at: datetime


async def candidates(database: Database, org_id: OrgId) -> list[Candidate]:
    """Every subscription of an organisation that was not deleted."""
    rows = await database.fetch(_SQL["candidates"], org_id)
    return [Candidate(*row) for row in rows]
