"""The service's own events, such as `triggers.delivery.dead`, for subscriptions that name these types.

Each is stored in the same transaction as the change that it reports, so a crash loses both or neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from triggers.domain import EventId, NewEvent, OrgId
from triggers.errors import DatabaseUnavailable, NotFound
from triggers.events import store as event_store
from triggers.events.matching import Finding, Judging
from triggers.events.store import Batch
from triggers.postgres.clock import DatabaseClock
from triggers.postgres.database import Connection

DEAD_LETTER: Final = "triggers.delivery.dead"
DISABLED: Final = "triggers.subscription.disabled"
ROUNDS: Final = 5
_NO_WINDOW: Final = timedelta(0)  # they have no dedup_id


class Told(NamedTuple):
    """A service event that may have to be stored for an organisation."""

    org_id: UUID
    type: str
    payload: Mapping[str, str | int | None]


async def tell(connection: Connection, clock: DatabaseClock, judging: Judging, told: Sequence[Told]) -> None:
    """Store each event whose type a subscription of its organisation names, in the current transaction.

    Nothing is stored for an organisation that was deleted meanwhile.

    Raises:
        DatabaseUnavailable: the subscriptions changed too often; repeat the transaction.
    """
    waiting = [
        NewEvent(
            org_id=OrgId(each.org_id),
            id=EventId(clock.mint()),
            type=each.type,
            payload=msgspec.json.encode(each.payload),
        )
        for each in await _wanted(connection, told)
    ]
    for _ in range(ROUNDS):
        if not waiting:
            return
        waiting = await _of_existing(judging, waiting)
        judged = [judging.judge(event) for event in waiting]
        findings: dict[str, Finding] = {
            f"{event.id}{subscription_id}": finding
            for event, each in zip(waiting, judged, strict=True)
            for subscription_id, finding in each.findings.items()
        }
        batch = Batch(waiting, [each.rules.version for each in judged], findings)
        receipt = await event_store.accept(connection, clock, batch, _NO_WINDOW)
        missing = set(receipt.missing)
        waiting = [event for event in waiting if event.id in missing]
        for event in waiting:
            judging.outdated(event.org_id)
    raise DatabaseUnavailable("Subscriptions changed too often while an event of the service was stored.")


async def _of_existing(judging: Judging, events: Sequence[NewEvent]) -> list[NewEvent]:
    """The events of organisations that exist. Their rules are in memory after this call."""
    deleted = set()
    for org_id in {event.org_id for event in events}:
        try:
            await judging.refresh(org_id)
        except NotFound:
            deleted.add(org_id)
    return [event for event in events if event.org_id not in deleted]


async def _wanted(connection: Connection, told: Sequence[Told]) -> list[Told]:
    wanted = []
    for event_type in {each.type for each in told}:
        those = [each for each in told if each.type == event_type]
        listening = await event_store.listeners(connection, list({each.org_id for each in those}), event_type)
        wanted += [each for each in those if each.org_id in listening]
    return wanted
