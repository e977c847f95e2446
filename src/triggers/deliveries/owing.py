"""New deliveries of past events, matched in the same way as at accept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

import msgspec

from triggers.deliveries import store
from triggers.deliveries.store import Owed, Recipient
from triggers.domain import MAX_PAGE_BYTES
from triggers.errors import Invalid
from triggers.events.matching import Pointed, parse_pointer
from triggers.events.matching_store import FilterFailure
from triggers.fairness.pace import breathe, do
from triggers.postgres.database import Connection, Database, statements
from triggers.subscriptions.payload_filter import FilterInput, PayloadFilter, Verdict, failed

_SQL = statements(__name__)

MATCH_SECONDS: Final = 0.25
"""Time for matching the events of one call. The next call matches the rest."""


class PastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event without its payload, as a job looks at it."""

    id: UUID
    type: str
    source: str | None
    subject: str | None
    ordering_key: str | None
    payload_size: int


async def match_again(
    connection: Connection,
    to: Recipient,
    events: Sequence[PastEvent],
    failures: list[FilterFailure],
    *,
    by_filter: bool,
) -> tuple[list[Owed], UUID | None]:
    """Find the deliveries that these events make, matched as accept would have matched them.

    It takes bounded time and memory. If it did not look at all events, the second value is the id below which
    it did; otherwise None.
    """
    payload_filter = _filter(to) if by_filter else None
    pointer = to.ordering_pointer if to.ordering == "key" else None
    if payload_filter is None and pointer is None:
        return [Owed(event.id, event.payload_size, _plain_key(to, event)) for event in events], None
    events, stopped = that_fit(events)
    payloads = await payloads_of(connection, to.org_id, [event.id for event in events])
    steps = None if pointer is None else parse_pointer(pointer)
    owed = []
    deadline = time.monotonic() + MATCH_SECONDS
    # In the turns of the service, not of the organisation: a connection and a lock are held meanwhile.
    for event in events:
        payload = payloads.get(event.id)
        if payload is None:
            continue
        if payload_filter is not None:
            seen = FilterInput(payload, event.type, event.source, event.subject)
            verdict = (
                payload_filter
                if isinstance(payload_filter, Verdict)
                else await do(payload_filter.judge_in_steps(seen), None)
            )
            if verdict.failure is not None and to.filter is not None:
                failures.append(FilterFailure(to.org_id, to.id, to.filter, verdict.failure))
            if not verdict.matched:
                continue
        key = _plain_key(to, event)
        if steps is not None:
            found = await do(Pointed(payload).key_in_steps(steps), None)
            key = str(event.id) if found is None else found
        owed.append(Owed(event.id, event.payload_size, key))
        if time.monotonic() > deadline and event is not events[-1]:
            return owed, id_after(event.id)
        await breathe(None)
    return owed, stopped


def that_fit(events: Sequence[PastEvent]) -> tuple[Sequence[PastEvent], UUID | None]:
    """The first events whose payloads fit into memory together, one at least."""
    size = 0
    for count, event in enumerate(events):
        size += event.payload_size
        if size > MAX_PAGE_BYTES and count:
            return events[:count], id_after(events[count - 1].id)
    return events, None


def _plain_key(to: Recipient, event: PastEvent) -> str | None:
    """The ordering key as accept stores it where no payload is looked into."""
    return (event.ordering_key or "") if to.kind == "push" and to.ordering == "key" else None


def _filter(to: Recipient) -> PayloadFilter | Verdict | None:
    """The subscription's filter; of one that cannot be used, what it says of everything."""
    if to.filter is None:
        return None
    try:
        return _compiled(to.filter)
    except Invalid as error:
        return failed(error.message)


@lru_cache(maxsize=256)
def _compiled(expression: str) -> PayloadFilter:
    return PayloadFilter.compile(expression)


def id_after(event_id: UUID) -> UUID:
    """The lowest id above this one."""
    return UUID(int=event_id.int + 1)


async def owe_once_more(database: Database, to: Recipient, event_id: UUID) -> bool:
    """Create the next generation of an undelivered delivery. False if it or its event does not exist."""
    async with database.connection() as connection, connection.transaction():
        await store.lock_recipient(connection, to.org_id, to.id)
        events = await events_of(connection, to.org_id, [event_id])
        owed, _ = await match_again(connection, to, events, [], by_filter=False)
        return bool(await store.owe_again(connection, to, owed, only_unhappy=True))


async def events_of(connection: Connection, org_id: UUID, ids: Sequence[UUID]) -> list[PastEvent]:
    """Return these events, oldest first, as far as they are still stored."""
    if not ids:
        return []
    rows = await connection.fetch(_SQL["events_of"], org_id, ids, min(ids), max(ids))
    return [PastEvent(**row) for row in rows]


async def payloads_of(connection: Connection, org_id: UUID, ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """The payloads of these events. The caller keeps their sum within bounds."""
    if not ids:
        return {}
    rows = await connection.fetch(_SQL["payloads"], org_id, ids, min(ids), max(ids))
    return {row["id"]: row["payload"] for row in rows}
